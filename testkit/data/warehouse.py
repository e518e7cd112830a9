"""The inventory in a test: handled events of orders, and the resulting levels and movements."""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from uuid_utils.compat import uuid7

from common.events import Line, OrderCancelled, OrderCreated, OrderShipped
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Transient
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox
from inventory_worker import movements, stock
from inventory_worker.handlers import HANDLERS
from inventory_worker.models import Reservation
from inventory_worker.movements import Difference, Movement, Note
from testkit.events.deliveries import deliver

NOTE = Note(reason="a test", entered_by="tests")


class Warehouse:
    """An inventory's database, and the actions of its worker."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def receive(self, **pieces: int) -> None:
        """Receive goods."""
        self.receive_all(pieces)

    def receive_all(self, pieces: dict[str, int]) -> None:
        """Receive goods whose SKUs need not be identifiers."""
        with transaction(self.sessions) as session:
            for sku, quantity in sorted(pieces.items()):
                stock.receive(session, sku, quantity, NOTE)

    def count(self, sku: str, pieces: int) -> None:
        """Set the quantity on hand of a SKU."""
        with transaction(self.sessions) as session:
            stock.count(session, sku, pieces, NOTE)

    def created(self, order_id: UUID | None = None, **lines: int) -> Event:
        """Return the event of a new order."""
        return order_created(lines, order_id)

    def cancelled(self, order: Event) -> Event:
        """Return the event of an order's cancellation."""
        return order_cancelled(order)

    def shipped(self, order: Event) -> Event:
        """Return the event of an order's shipment."""
        return order_shipped(order)

    def handle(self, *events: Event) -> None:
        """Handle events in one batch, as a worker does."""
        deliver(self.sessions, HANDLERS, *events)

    def handle_or_each(self, *events: Event) -> None:
        """Handle events in one batch or, after a transient error, one by one, as a worker does."""
        try:
            self.handle(*events)
        except Transient:
            for event in events:
                self.handle(event)

    def level(self, sku: str) -> tuple[int, int]:
        """Return the quantities on hand and reserved of a SKU."""
        with transaction(self.sessions) as session:
            (level,) = stock.levels(session, sku)
        return level.on_hand, level.reserved

    def status(self, order: Event) -> str | None:
        """Return the status of an order's reservation."""
        query = select(Reservation.status).where(Reservation.order_id == order.subject)
        with transaction(self.sessions) as session:
            return session.scalar(query)

    def events_about(self, order: Event) -> list[Event]:
        """Return the inventory's events about an order, oldest first."""
        query = select(outbox.c.event).where(outbox.c.subject == order.subject)
        with transaction(self.sessions) as session:
            rows = session.scalars(query.order_by(outbox.c.id)).all()
        return [codec.decode(json.loads(row)) for row in rows]

    def movements(self, sku: str) -> list[Movement]:
        """Return the movements of a SKU, the newest first."""
        with transaction(self.sessions) as session:
            return movements.newest(session, sku, 1_000)

    def differences(self) -> list[Difference]:
        """Return the levels that are not the sums of their movements."""
        with transaction(self.sessions) as session:
            return movements.differences(session, 10)

    def execute(self, statement: str) -> None:
        """Run a statement."""
        with transaction(self.sessions) as session:
            session.execute(text(statement))


def order_created(lines: dict[str, int], order_id: UUID | None = None) -> Event:
    """Return the event of a new order."""
    data = OrderCreated(
        customer_email="ada@example.org",
        currency="EUR",
        total=sum(lines.values()),
        lines=tuple(Line(sku=sku, quantity=n, unit_price=1) for sku, n in lines.items()),
    )
    return Event(source="order", subject=order_id or uuid7(), sequence=1, data=data)


def order_cancelled(order: Event) -> Event:
    """Return the event of an order's cancellation."""
    data = OrderCancelled(reason="customer", **_ordered(order))
    return Event(source="order", subject=order.subject, sequence=3, data=data)


def order_shipped(order: Event) -> Event:
    """Return the event of an order's shipment."""
    data = OrderShipped(**_ordered(order))
    return Event(source="order", subject=order.subject, sequence=3, data=data)


def _ordered(order: Event) -> dict[str, Any]:
    assert isinstance(order.data, OrderCreated)
    names = ("customer_email", "currency", "total", "lines")
    return {name: getattr(order.data, name) for name in names}
