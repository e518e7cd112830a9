"""A backlog of generated events in the order service's outbox."""

from uuid import UUID

from sqlalchemy import insert
from uuid_utils.compat import uuid7

from bench.system.servers import SKUS, checkpoint, execute
from common.events import Line, OrderConfirmed, OrderCreated
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox
from testkit.processes.stack import Stack


def order_created(number: int) -> Event:
    """Return the event of an order with two lines."""
    lines = tuple(
        Line(sku=SKUS[(number + step) % len(SKUS)], quantity=1, unit_price=500) for step in (0, 7)
    )
    data = OrderCreated(customer_email="ada@example.com", currency="EUR", total=1000, lines=lines)
    return Event(source="order", subject=uuid7(), sequence=1, data=data)


def order_confirmed(number: int) -> Event:
    """Return the event that confirms such an order."""
    created = order_created(number)
    assert isinstance(created.data, OrderCreated)
    common = {name: getattr(created.data, name) for name in ("customer_email", "currency", "lines")}
    data = OrderConfirmed(total=created.data.total, **common)
    return Event(source="order", subject=created.subject, sequence=2, data=data)


def fill_outbox(stack: Stack, events: int) -> None:
    """Insert unsent events of new and decided orders, alternately, into the order service's outbox.

    An outbox under load contains the same mixture, of different orders.
    """
    for start in range(0, events, 5_000):
        rows = [
            _row((order_created, order_confirmed)[n % 2](n))
            for n in range(start, min(start + 5_000, events))
        ]
        with transaction(stack.sessions("order")) as session:
            session.execute(insert(outbox), rows)
    execute(stack, "order", "ANALYZE outbox")
    checkpoint(stack)


def _row(event: Event) -> dict[str, str | UUID]:
    return {
        "event_id": event.id,
        "type": event.type,
        "subject": event.subject,
        "event": codec.encode(event).decode(),
    }
