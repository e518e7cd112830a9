"""Outages of a service's infrastructure: no event is parked, and consumption resumes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY
from eventbus.database.db import transaction
from testkit.data.placed_orders import publish
from testkit.eventually import eventually
from testkit.processes.stack import ORDER_FLOW, RETRY_TIERS, Stack
from testkit.servers.databases import TestDatabase
from testkit.servers.outages import read_only, refusing

Outage = Callable[[TestDatabase], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("outage", "reason"),
    [
        (read_only, "the database takes no writes"),
        (refusing, "the database cannot be reached"),
    ],
    ids=["read-only", "down"],
)
def test_a_database_outage_is_not_charged_to_events(
    stack: Stack, outage: Outage, reason: str
) -> None:
    # Given a running system
    stack.start(*ORDER_FLOW)
    stack.stock(TEA=100)
    assert stack.decided(stack.place(("TEA", 1))) == ("CONFIRMED", None)

    # When the inventory's database is down for several probes, under load
    with outage(stack.databases["inventory"]):
        orders = [stack.place(("TEA", 1)) for _ in range(20)]
        eventually(lambda: _assert_paused(stack, reason))
        eventually(lambda: _assert_probed(stack))
        settled = _settled(stack)

    # Then no event was parked or retried during the outage
    assert settled == 0
    # And every order is decided in the first attempt
    outcomes = [stack.decided(order_id) for order_id in orders]
    assert outcomes == [("CONFIRMED", None)] * 20
    assert stack.reserved("TEA") == 21
    assert set(stack.execute("inventory", "SELECT attempts FROM inbox")) == {1}
    assert "consumption resumed" in stack.log("inventory-worker")


def test_repeated_kills_of_a_worker_park_nothing(stack: Stack) -> None:
    # Given events for a worker whose handler waits for a lock
    stack.stock(TEA=1_000)
    publish(stack, 300)
    eventually(lambda: _assert_depth(stack, 300))
    stack.extra |= {"DATABASE_LOCK_TIMEOUT": "60", "DATABASE_STATEMENT_TIMEOUT": "60"}

    # When the whole worker is killed more often than there are retries
    with _locked(stack, "TEA"):
        for _ in range(len(RETRY_TIERS) + 4):
            stack.start("inventory-worker")
            eventually(lambda: _assert_depth(stack, 0))
            stack.kill("inventory-worker")
            eventually(lambda: _assert_depth(stack, 300))

    # Then the next worker handles every event, and no event is parked
    stack.start("inventory-worker")
    eventually(lambda: _assert_reserved(stack, 300))
    assert _settled(stack) == 0


def test_an_event_that_kills_its_whole_worker_is_parked(stack: Stack) -> None:
    # Given an event whose handler kills all processes of its worker, and others
    stack.start("api", "order-relay", "inventory-relay", "order-worker", "beat")
    stack.stock(TEA=100)
    order_id = stack.place(("TEA", 1), email="kill-all@example.com")
    others = [stack.place(("TEA", 1)) for _ in range(5)]
    eventually(lambda: _assert_depth(stack, 6))

    # When the worker is restarted after each crash
    module = "testkit.programs.failing.inventory_worker"
    stack.extra["ATTEMPTS"] = str(stack.directory)

    def parked() -> None:
        if not stack.is_running("inventory-worker"):
            stack.launch("inventory-worker", module=module)
        assert stack.vhost.depth(INVENTORY.parking_lot) == 1

    eventually(parked, within=600)

    # Then the event is parked with the reason, and the other orders are decided
    (message,) = stack.vhost.messages(INVENTORY.parking_lot)
    assert message.headers["x-failure-exception"] == "CrashedTooOften"
    assert order_id in str(message.body)
    assert {stack.decided(other) for other in others} == {("CONFIRMED", None)}


@contextmanager
def _locked(stack: Stack, sku: str) -> Iterator[None]:
    with transaction(stack.sessions("inventory")) as session:
        session.execute(text("SELECT FROM stock WHERE sku = :sku FOR UPDATE"), {"sku": sku})
        yield


def _settled(stack: Stack) -> int:
    """Return how many messages of the inventory are parked or in a retry tier."""
    queues = [INVENTORY.parking_lot, *map(INVENTORY.retry_queue, RETRY_TIERS)]
    return sum(stack.vhost.depth(queue) for queue in queues)


def _assert_reserved(stack: Stack, pieces: int) -> None:
    assert stack.reserved("TEA") == pieces


def _assert_depth(stack: Stack, count: int) -> None:
    assert stack.vhost.depth(INVENTORY.queue) == count


def _assert_paused(stack: Stack, reason: str) -> None:
    lines = [line for line in stack.log("inventory-worker").splitlines() if reason in line]
    assert any("consumption paused" in line for line in lines)


def _assert_probed(stack: Stack) -> None:
    """Require several seconds of outage, by the failed drains of the relay, one each second."""
    assert stack.log("inventory-relay").count("drain failed with a database error") > 3


def test_acknowledgements_continue_while_copies_are_blocked(stack: Stack) -> None:
    # Given many events, one of which fails permanently, and a memory alarm on the broker
    stack.stock(TEA=10_000)
    publish(stack, 1_000)
    (failing,) = publish(stack, 1, email="permanent@example.com")
    publish(stack, 200)
    command = "set_vm_memory_high_watermark"
    with stack.servers.limited(command, "absolute 1MB", "absolute 1GB"):
        # When the worker handles them
        stack.start_failing()

        # Then the queue is drained, except for the event whose copy is blocked
        eventually(lambda: _assert_counts(stack, ready=0, unacknowledged=1))
        assert _settled(stack) == 0
        assert stack.reserved("TEA") == 1_200

    # And after the alarm that event is parked once
    eventually(lambda: _assert_parked(stack, failing))


def _assert_counts(stack: Stack, *, ready: int, unacknowledged: int) -> None:
    path = f"/queues/{stack.vhost.name}/{INVENTORY.queue}"
    queue = stack.vhost.request("GET", path).json()
    # The broker's statistics of a new queue are seconds old.
    depths = (queue.get("messages_ready"), queue.get("messages_unacknowledged"))
    assert depths == (ready, unacknowledged)


def _assert_parked(stack: Stack, order_id: object) -> None:
    (message,) = stack.vhost.messages(INVENTORY.parking_lot)
    assert str(order_id) in str(message.body)
