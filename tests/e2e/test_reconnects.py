"""Connections that are lost under load: everything is handled once, and nothing stands still."""

from contextlib import closing
from uuid import UUID, uuid4

from common import codec
from common.events import Event, Line, OrderCreated
from common.in_flight import Outgoing
from common.kombu_topology import INVENTORY
from tests.support.eventually import eventually
from tests.support.stack import Stack

EVENTS = 2_000


def test_a_connection_that_is_lost_again_and_again_stalls_nothing(stack: Stack) -> None:
    # Given several times as many events as a worker takes at once
    stack.stock(TEA=10_000)
    subjects = publish(stack, EVENTS)
    eventually(lambda: _assert_ready(stack, EVENTS), within=60)

    # When its connection is closed while it works, again and again from its start on
    stack.start("inventory-worker")
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        cuts += stack.cut("inventory-worker") > 0
        assert cuts >= 4

    eventually(cut, within=60)

    # Then every event has one effect, and the broker waits for no acknowledgement
    eventually(lambda: _assert_handled(stack, len(subjects)), within=90)
    assert stack.reserved("TEA") == len(subjects)
    eventually(lambda: _assert_settled(stack), within=60)
    assert stack.vhost.depth(INVENTORY.parking_lot) == 0


def publish(stack: Stack, count: int) -> set[UUID]:
    """Publish `order.created` of so many orders, each for one piece of TEA."""
    line = Line(sku="TEA", quantity=1, unit_price=1)
    data = OrderCreated(customer_email="a@example.com", currency="EUR", total=1, lines=(line,))
    events = [Event(source="order", subject=uuid4(), sequence=1, data=data) for _ in range(count)]
    with closing(stack.publisher()) as publisher:
        for start in range(0, count, 500):
            batch = [
                Outgoing(event.id, event.type, codec.encode(event).decode(), event.subject)
                for event in events[start : start + 500]
            ]
            assert publisher.publish(batch).error is None
    return {event.subject for event in events}


def _assert_ready(stack: Stack, count: int) -> None:
    assert stack.vhost.depth(INVENTORY.queue) == count


def _assert_handled(stack: Stack, count: int) -> None:
    assert stack.execute("inventory", "SELECT count(*) FROM reservations") == [count]


def _assert_settled(stack: Stack) -> None:
    path = f"/queues/{stack.vhost.name}/{INVENTORY.queue}"
    queue = stack.vhost.request("GET", path).json()
    assert (queue["messages_ready"], queue["messages_unacknowledged"]) == (0, 0)
