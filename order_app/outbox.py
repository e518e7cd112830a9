"""What the order service tells the others: facts about an order, as events in its outbox."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from common import events
from common.events import Event, Line, OrderCancelled, OrderConfirmed, OrderCreated, Shortage
from common.kombu_topology import ORDER
from common.outbox import append
from order_app.domain import Order, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What made an order change: a request from `client_ip`, a timer, or the event `event_id`."""

    traceparent: str | None = None
    event_id: UUID | None = None
    client_ip: str | None = None

    @classmethod
    def of(cls, event: Event) -> "Cause":
        """Return an event as the cause of what answers it."""
        return cls(traceparent=event.traceparent, event_id=event.id)


def record(
    session: Session,
    order: Order,
    *,
    sequence: int,
    cause: Cause,
    shortages: tuple[Shortage, ...] = (),
) -> None:
    """Append, in the caller's transaction, the event that tells of the order's new status."""
    append(session, event_of(order, sequence=sequence, cause=cause, shortages=shortages))


def event_of(
    order: Order, *, sequence: int, cause: Cause, shortages: tuple[Shortage, ...] = ()
) -> Event:
    """Return the event that tells of the order's status.

    `sequence` is the order's next; `shortages` are why it is CANCELLED, if for want of stock.
    """
    return Event(
        source=ORDER.name,
        subject=order.id,
        sequence=sequence,
        traceparent=cause.traceparent,
        causationid=cause.event_id,
        # The moment that the order has, to the microsecond: who adds up events by their time comes
        # to the same as who adds up orders.
        time=order.decided_at or order.created_at,
        data=_fact(order, cause, shortages),
    )


def _fact(order: Order, cause: Cause, shortages: tuple[Shortage, ...]) -> events.Data:
    # The later events repeat what was ordered, so that no consumer must remember it.
    ordered: dict[str, Any] = {
        "customer_email": order.customer_email,
        "currency": order.currency,
        "total": order.total,
        "lines": tuple(
            Line(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price)
            for line in order.lines
        ),
    }
    match order.status:
        case Status.PENDING:
            return OrderCreated(client_ip=cause.client_ip, **ordered)
        case Status.CONFIRMED:
            return OrderConfirmed(**ordered)
        case Status.CANCELLED:
            return OrderCancelled(reason=str(order.reason), shortages=shortages, **ordered)
