"""An operator's pause of one service: nothing is consumed, and nothing is lost or charged."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from common.kombu_topology import INVENTORY
from eventbus.consumer import operator_pause
from eventbus.database.db import transaction
from testkit.data.placed_orders import publish
from testkit.eventually import eventually
from testkit.processes.stack import RETRY_TIERS, Stack

#: More than the workers prefetch.
EVENTS = 2_000


def test_a_pause_outlives_workers_and_the_broker(stack: Stack) -> None:
    # Given two workers of one service that hold hundreds of messages behind a lock
    stack.stock(TEA=10_000)
    publish(stack, EVENTS)
    stack.extra |= {"DATABASE_LOCK_TIMEOUT": "60", "DATABASE_STATEMENT_TIMEOUT": "60"}
    with _locked(stack, "TEA"):
        stack.start("inventory-worker")
        stack.start("inventory-worker", alias="another-worker")
        eventually(lambda: _assert_consumers(stack, 2))

        # When an operator pauses the service
        _pause(stack, "inventory")

    # Then the workers finish what they handle, and return all other messages to the queue
    eventually(lambda: _assert_consumers(stack, 0))
    eventually(lambda: _assert_all_settled(stack))
    handled = stack.reserved("TEA")
    assert 0 < handled < EVENTS

    # And the pause holds for workers that start later, and after a restart of the broker
    stack.kill("inventory-worker")
    stack.start("inventory-worker")
    eventually(lambda: _assert_reported(stack, "inventory-worker"))
    stack.servers.stop_broker()
    stack.servers.start_broker()
    eventually(lambda: _assert_connected(stack, 2))
    _assert_consumers(stack, 0)
    assert (stack.reserved("TEA"), stack.vhost.depth(INVENTORY.queue)) == (
        handled,
        EVENTS - handled,
    )

    # And when the operator resumes the service, every event is handled in its first attempt
    _resume(stack, "inventory")
    eventually(lambda: _assert_reserved(stack, EVENTS))
    assert set(stack.execute("inventory", "SELECT attempts FROM inbox")) == {1}
    assert _failed(stack) == 0

    # And a worker that starts after the pause begins with one event
    stack.start("inventory-worker", alias="a-later-worker")
    eventually(lambda: _assert_logged(stack, "a-later-worker", "consumption starts with a canary"))


def test_a_paused_service_does_not_disturb_others(stack: Stack) -> None:
    # Given a running system whose notification service is paused
    _pause(stack, "notification")
    stack.start()
    stack.stock(TEA=10)

    # When an order is placed
    order_id = stack.place(("TEA", 1))

    # Then it is decided, and its events wait for the paused service
    assert stack.decided(order_id) == ("CONFIRMED", None)
    eventually(lambda: _assert_depth(stack, "notification.queue", 2))
    assert stack.execute("notification", "SELECT count(*) FROM inbox") == [0]

    # And the mails are sent after the service is resumed
    _resume(stack, "notification")
    eventually(lambda: _assert_mails(stack, 2))


@contextmanager
def _locked(stack: Stack, sku: str) -> Iterator[None]:
    with transaction(stack.sessions("inventory")) as session:
        session.execute(text("SELECT FROM stock WHERE sku = :sku FOR UPDATE"), {"sku": sku})
        yield


def _pause(stack: Stack, service: str) -> None:
    with transaction(stack.sessions(service)) as session:
        assert operator_pause.begin(session, reason="a test", by="ada") is None


def _resume(stack: Stack, service: str) -> None:
    with transaction(stack.sessions(service)) as session:
        assert operator_pause.end(session) is not None


def _assert_consumers(stack: Stack, count: int) -> None:
    # Not by the management API, which has no statistics for a while after the broker's start.
    with stack.vhost.connect() as connection:
        queue = connection.default_channel.queue_declare(INVENTORY.queue, passive=True)
    assert queue.consumer_count == count


def _assert_connected(stack: Stack, workers: int) -> None:
    listed = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
    names = [connection.get("user_provided_name", "") for connection in listed]
    assert names.count("inventory-worker") == workers


def _assert_all_settled(stack: Stack) -> None:
    """Require that no message of the queue is held, and that each is either handled or ready."""
    ready = stack.vhost.depth(INVENTORY.queue)
    assert ready + stack.reserved("TEA") == EVENTS


def _assert_reported(stack: Stack, worker: str) -> None:
    assert stack.health_file(worker).read_text() == "ready, paused by an operator\n"


def _assert_reserved(stack: Stack, pieces: int) -> None:
    assert stack.reserved("TEA") == pieces


def _assert_logged(stack: Stack, worker: str, message: str) -> None:
    assert f'"{message}"' in stack.log(worker)


def _assert_depth(stack: Stack, queue: str, count: int) -> None:
    assert stack.vhost.depth(queue) == count


def _assert_mails(stack: Stack, count: int) -> None:
    assert len(stack.mails()) == count


def _failed(stack: Stack) -> int:
    """Return how many messages of the inventory are parked or in a retry tier."""
    queues = [INVENTORY.parking_lot, *map(INVENTORY.retry_queue, RETRY_TIERS)]
    return sum(stack.vhost.depth(queue) for queue in queues)
