"""Connections that are lost under load: every event is handled once, and no event is stuck."""

from common.kombu_topology import INVENTORY
from testkit.data.placed_orders import publish
from testkit.eventually import eventually
from testkit.processes.stack import Stack

EVENTS = 2_000


def test_repeated_loss_of_a_connection_stalls_no_event(stack: Stack) -> None:
    # Given several times as many events as a worker prefetches
    stack.stock(TEA=10_000)
    subjects = publish(stack, EVENTS)
    eventually(lambda: _assert_ready(stack, EVENTS))

    # When its connection is closed repeatedly while it works, from its start on
    stack.start("inventory-worker")
    closings = 0

    def closed() -> None:
        nonlocal closings
        closings += stack.close_connections("inventory-worker") > 0
        assert closings >= 4

    eventually(closed)

    # Then every event has one effect, and every delivery is acknowledged
    eventually(lambda: _assert_handled(stack, len(subjects)))
    assert stack.reserved("TEA") == len(subjects)
    eventually(lambda: _assert_settled(stack))
    assert stack.vhost.depth(INVENTORY.parking_lot) == 0


def _assert_ready(stack: Stack, count: int) -> None:
    assert stack.vhost.depth(INVENTORY.queue) == count


def _assert_handled(stack: Stack, count: int) -> None:
    assert stack.execute("inventory", "SELECT count(*) FROM reservations") == [count]


def _assert_settled(stack: Stack) -> None:
    path = f"/queues/{stack.vhost.name}/{INVENTORY.queue}"
    queue = stack.vhost.request("GET", path).json()
    assert (queue["messages_ready"], queue["messages_unacknowledged"]) == (0, 0)
