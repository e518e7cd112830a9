"""Events of many orders, published without the API."""

from contextlib import closing
from uuid import UUID, uuid4

from common.events import Line, OrderCreated
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import Stack


def publish(stack: Stack, count: int, *, email: str = "a@example.com") -> set[UUID]:
    """Publish `order.created` events of `count` orders of one TEA, and return the orders' ids."""
    line = Line(sku="TEA", quantity=1, unit_price=1)
    data = OrderCreated(customer_email=email, currency="EUR", total=1, lines=(line,))
    events = [Event(source="order", subject=uuid4(), sequence=1, data=data) for _ in range(count)]
    with closing(stack.publisher()) as publisher:
        for start in range(0, count, 500):
            batch = [
                Outgoing(event.id, event.type, codec.encode(event).decode(), event.subject)
                for event in events[start : start + 500]
            ]
            assert publish_and_settle(publisher, batch).error is None
    return {event.subject for event in events}
