"""Events in a test's outbox."""

import time
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, select, text

from common.events import (
    Data,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderShipped,
    Quantity,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from eventbus.outbox.relay import Relay
from eventbus.outbox.slots import SLOT, Part
from eventbus.outbox.table import append, outbox, relay_state

ORDERED: dict[str, Any] = {
    "customer_email": "ada@example.com",
    "currency": "EUR",
    "total": 100,
    "lines": (Line(sku="Ä-1", quantity=1, unit_price=100),),
}
HELD = (Quantity(sku="Ä-1", quantity=1),)
SHORT = (Shortage(sku="Ä-1", requested=1, available=0),)
CREATED = OrderCreated(**ORDERED)
CONFIRMED = OrderConfirmed(**ORDERED)
CANCELLED = OrderCancelled(reason="customer", **ORDERED)
DATA: dict[str, Data] = {
    data.TYPE: data
    for data in (
        CREATED,
        CONFIRMED,
        OrderShipped(**ORDERED),
        CANCELLED,
        StockReserved(lines=HELD),
        StockRejected(reason="out_of_stock", shortages=SHORT),
        StockReleased(lines=HELD),
    )
}


def event(
    data: Data, subject: UUID | None = None, sequence: int = 1, source: str = "order"
) -> Event:
    """Return an event of an order, by default of a new order."""
    return Event(
        source=source,
        subject=subject or uuid4(),
        sequence=sequence,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        data=data,
    )


def record(sessions: Sessions, *events: Event) -> list[UUID]:
    """Append events in one transaction, and return their ids."""
    with transaction(sessions) as session:
        for recorded in events:
            append(session, recorded)
    return [recorded.id for recorded in events]


def rows(sessions: Sessions) -> dict[UUID, Row[Any]]:
    """Return the rows of the outbox in sequence, by the event's id."""
    with transaction(sessions) as session:
        result = session.execute(select(outbox).order_by(outbox.c.id)).all()
    return {row.event_id: row for row in result}


def row_of(sessions: Sessions, event_id: UUID) -> Row[Any]:
    """Return an event's row."""
    return rows(sessions)[event_id]


def sent(sessions: Sessions) -> list[UUID]:
    """Return the ids of the events that are marked sent, in sequence."""
    return [event_id for event_id, row in rows(sessions).items() if row.sent_at]


def orders_of(sessions: Sessions, part: Part, count: int) -> list[UUID]:
    """Return ids of orders whose slots belong to a part."""
    query = text(
        f"SELECT subject FROM (SELECT gen_random_uuid() AS subject FROM generate_series(1, 2000))"
        f" AS orders WHERE {SLOT} % {part.parts} = {part.number} LIMIT :count"
    )
    with transaction(sessions) as session:
        return list(session.scalars(query, {"count": count}))


def drain_all(drained: Relay, sessions: Sessions, *, within: float = 40) -> None:
    """Drain repeatedly until all events are sent."""
    deadline = time.monotonic() + within
    while len(sent(sessions)) < len(rows(sessions)):
        assert time.monotonic() < deadline
        drained.drain(time.monotonic() + 0.2)


def state(sessions: Sessions) -> Row[Any]:
    """Return the row of the relay's state."""
    with transaction(sessions) as session:
        return session.execute(select(relay_state)).one()
