"""A service whose handler has a bug pauses itself, and resumes only when the bug is fixed."""

from pathlib import Path

import pytest

from common.kombu_topology import EVENTS, INVENTORY, NOTIFICATION
from eventbus.consumer import operator_pause
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.database.db import transaction
from testkit.data.placed_orders import publish
from testkit.eventually import becomes, eventually
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.programs.mended import INVENTORY_WORKER

#: Orders whose events are published.
ORDERS = 400

#: The limit of a worker. One more event may be running in its other child.
LIMIT = 5
PARKED_BY_ONE = LIMIT + 1

WORKERS = ("inventory-worker", "another-worker")

QUEUES = (INVENTORY.queue, *map(INVENTORY.retry_queue, RETRY_TIERS))


@pytest.fixture
def broken(stack: Stack) -> Stack:
    """A system whose inventory has two workers, which fail until the file `$BUG` is removed."""
    bug = stack.directory / "bug"
    bug.touch()
    stack.extra |= {"BUG": str(bug), "PARKING_BURST_LIMIT": str(LIMIT)}
    stack.stock(TEA=ORDERS)
    return stack


def test_a_handler_with_a_bug_pauses_its_service_until_it_is_fixed(broken: Stack) -> None:
    # Given events for two services, one of which has a bug
    publish(broken, ORDERS)
    broken.start("notification-worker")
    for name in WORKERS:
        broken.start("inventory-worker", module=INVENTORY_WORKER, alias=name)

    # When some events have failed in all their attempts
    pause = eventually(lambda: _pause(broken))

    # Then the service has paused itself, and its other events wait, unparked
    assert pause.is_by_worker
    assert "events parked within a minute: KeyError in mended/inventory_worker.py" in pause.reason
    eventually(lambda: _assert_waiting(broken))
    parked = broken.vhost.depth(INVENTORY.parking_lot)
    assert LIMIT <= parked <= len(WORKERS) * PARKED_BY_ONE
    for name in WORKERS:
        eventually(lambda n=name: _assert_state(broken, n, "ready, paused after failures"))

    # And the other service has handled all its events
    eventually(lambda: _assert_handled(broken, "notification", ORDERS))
    assert _pause_of(broken, "notification") is None

    # When an operator resumes it with the bug in place
    before = _attempts(broken)
    _resume(broken)

    # Then it pauses itself again, after at most one event for each worker
    again = eventually(lambda: _pause(broken))
    assert again.reason.startswith("the first event after the pause failed: KeyError in mended/")
    eventually(lambda: _assert_waiting(broken))
    assert 1 <= _attempts(broken) - before <= len(WORKERS)
    parked_again = broken.vhost.depth(INVENTORY.parking_lot)
    assert parked <= parked_again <= parked + len(WORKERS)

    # And when it is resumed with the bug fixed, every event has one effect
    Path(broken.extra["BUG"]).unlink()
    _resume(broken)
    left = ORDERS - parked_again
    eventually(lambda: _assert_handled(broken, "inventory", left))
    assert broken.reserved("TEA") == left
    eventually(lambda: _assert_empty(broken))
    assert _pause_of(broken, "inventory") is None
    becomes(lambda: broken.vhost.depth(INVENTORY.parking_lot), parked_again)


def test_invalid_messages_do_not_pause_a_service(stack: Stack) -> None:
    # Given a service with a low limit
    stack.extra["PARKING_BURST_LIMIT"] = str(LIMIT)
    stack.stock(TEA=ORDERS)
    stack.start("inventory-worker", "notification-worker")

    # When ten times as many invalid messages are published, and then good ones
    headers = {"task": "order.created", "id": "00000000-0000-0000-0000-000000000001", "retries": 0}
    for body in (b"{}", b'[[], {"event": {}}, {}]'):
        for changes in ({}, {"task": "unknown.type"}, {"id": "not a uuid"}, {"retries": -1}):
            for _ in range(LIMIT * 2):
                stack.vhost.publish(
                    exchange=EVENTS.name,
                    routing_key="order.created",
                    body=body,
                    headers=headers | changes,
                )
    publish(stack, ORDERS)

    # Then each service parks the invalid messages and handles the good ones
    for service in (INVENTORY, NOTIFICATION):
        eventually(lambda s=service: _assert_handled(stack, s.name, ORDERS))
        eventually(lambda s=service: _assert_depth(stack, s.parking_lot, LIMIT * 2 * 8))
        assert _pause_of(stack, service.name) is None


def _pause_of(stack: Stack, service: str) -> OperatorPause | None:
    with transaction(stack.sessions(service)) as session:
        return operator_pause.read(session)


def _pause(stack: Stack) -> OperatorPause:
    pause = _pause_of(stack, "inventory")
    assert pause
    return pause


def _resume(stack: Stack) -> None:
    with transaction(stack.sessions("inventory")) as session:
        assert operator_pause.end(session) is not None


def _attempts(stack: Stack) -> int:
    return sum(stack.log(name).count('"handler failed"') for name in WORKERS)


def _assert_waiting(stack: Stack) -> None:
    """Require that each event is either parked or in the queue, and held by no worker."""
    with stack.vhost.connect() as connection:
        queue = connection.default_channel.queue_declare(INVENTORY.queue, passive=True)
    parked = stack.vhost.depth(INVENTORY.parking_lot)
    assert (queue.consumer_count, queue.message_count) == (0, ORDERS - parked)


def _assert_handled(stack: Stack, service: str, count: int) -> None:
    assert stack.execute(service, "SELECT count(*) FROM inbox") == [count]


def _assert_empty(stack: Stack) -> None:
    assert [stack.vhost.depth(queue) for queue in QUEUES] == [0] * len(QUEUES)


def _assert_depth(stack: Stack, queue: str, count: int) -> None:
    assert stack.vhost.depth(queue) == count


def _assert_state(stack: Stack, worker: str, state: str) -> None:
    assert stack.health_file(worker).read_text() == f"{state}\n"
