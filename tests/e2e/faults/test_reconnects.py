"""Connections that are lost under load: everything is handled once, and nothing stands still."""

from common.kombu_topology import INVENTORY
from testkit.data.placed_orders import publish
from testkit.eventually import eventually
from testkit.processes.stack import Stack

EVENTS = 2_000


def test_a_connection_that_is_lost_again_and_again_stalls_nothing(stack: Stack) -> None:
    # Given several times as many events as a worker takes at once
    stack.stock(TEA=10_000)
    subjects = publish(stack, EVENTS)
    eventually(lambda: _assert_ready(stack, EVENTS))

    # When its connection is closed while it works, again and again from its start on
    stack.start("inventory-worker")
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        cuts += stack.close_connections("inventory-worker") > 0
        assert cuts >= 4

    eventually(cut)

    # Then every event has one effect, and the broker waits for no acknowledgement
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
