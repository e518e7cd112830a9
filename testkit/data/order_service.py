"""The use cases and handlers of the order service, each call in its own transaction."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from common.events import Data, Quantity, Shortage, StockRejected, StockReleased, StockReserved
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from order_app import use_cases
from order_app.domain import Line, Order, Reason
from order_app.events import Cause
from order_app.handlers import HANDLERS
from order_app.storage import intake
from order_app.use_cases import Placement
from testkit.events.deliveries import deliver

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

PLACEMENT = Placement(
    customer_email="ann@example.com",
    currency="EUR",
    lines=(
        Line(sku="TEA", quantity=2, unit_price=1250),
        Line(sku="CUP", quantity=1, unit_price=5),
    ),
)
RESERVED = StockReserved(lines=(Quantity(sku="TEA", quantity=2), Quantity(sku="CUP", quantity=1)))
REJECTED = StockRejected(
    reason="out_of_stock", shortages=(Shortage(sku="TEA", requested=2, available=1),)
)
RELEASED = StockReleased(lines=RESERVED.lines)


def place(sessions: Sessions, *, seconds: float = 900, key: str | None = None) -> Order:
    """Place an order with a deadline in `seconds`, and return it."""
    with transaction(sessions) as session:
        return place_in(session, PLACEMENT, seconds=seconds, key=key)


def place_in(
    session: Session, placement: Placement, *, seconds: float = 900, key: str | None = None
) -> Order:
    """Place an order in a transaction. Return it, or the earlier order with the same key."""
    deadline, cause = timedelta(seconds=seconds), Cause(traceparent=TRACE)
    new = use_cases.new_order(placement, deadline=deadline, cause=cause, key=key)
    placed = intake.write(session.connection(), [new])
    if new.claim and not placed:
        return use_cases.placed_before(session, new.claim)
    return placed[new.order.id]


def get(sessions: Sessions, order_id: UUID) -> Order:
    """Return an order."""
    with transaction(sessions) as session:
        return use_cases.get(session, order_id)


def cancel(sessions: Sessions, order_id: UUID, reason: Reason = Reason.CUSTOMER) -> Order:
    """Cancel an order, and return it."""
    with transaction(sessions) as session:
        return use_cases.cancel(session, order_id, reason, cause=Cause(traceparent=TRACE))


def answer(order_id: UUID, data: Data, *, causation: UUID | None = None) -> Event:
    """Return an event of the inventory about an order."""
    return Event(
        source="inventory",
        subject=order_id,
        sequence=1,
        traceparent=TRACE,
        causationid=causation,
        data=data,
    )


def handle(sessions: Sessions, *events: Event) -> None:
    """Handle events in one batch, as the worker does."""
    deliver(sessions, HANDLERS, *events)
