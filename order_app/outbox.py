"""What the order service tells the others: facts about an order, as events in its outbox."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from common import events
from common.conversion import convert
from common.events import (
    Customer,
    Event,
    Line,
    Money,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderCreatedV2,
    OrderShipped,
    PricedLine,
    Shortage,
)
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
    order: Order,
    *,
    sequence: int,
    cause: Cause,
    shortages: tuple[Shortage, ...] = (),
    created_as: str = OrderCreated.TYPE,
) -> Event:
    """Return the event that tells of the order's status.

    `sequence` is the order's next; `shortages` are why it is CANCELLED, if for want of stock;
    `created_as` is the version that tells of a new one.
    """
    event = Event(
        source=ORDER.name,
        subject=order.id,
        sequence=sequence,
        traceparent=cause.traceparent,
        causationid=cause.event_id,
        # The moment that the order has, to the microsecond: who adds up events by their time comes
        # to the same as who adds up orders.
        time=order.shipped_at or order.decided_at or order.created_at,
        data=_fact(order, cause, shortages),
    )
    return convert(event, created_as) if order.status is Status.PENDING else event


def _fact(order: Order, cause: Cause, shortages: tuple[Shortage, ...]) -> events.Data:
    if order.status is Status.PENDING:
        return _created(order, cause)
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
        case Status.CONFIRMED:
            return OrderConfirmed(**ordered)
        case Status.SHIPPED:
            return OrderShipped(**ordered)
        case Status.CANCELLED:
            return OrderCancelled(reason=str(order.reason), shortages=shortages, **ordered)
        case status:
            raise ValueError(f"no event of this release tells of {status}")


def _created(order: Order, cause: Cause) -> OrderCreatedV2:
    def money(amount: int) -> Money:
        return Money(amount=amount, currency=order.currency)

    return OrderCreatedV2(
        customer=Customer(email=order.customer_email),
        total=money(order.total),
        lines=tuple(
            PricedLine(sku=line.sku, quantity=line.quantity, unit_price=money(line.unit_price))
            for line in order.lines
        ),
        client_ip=cause.client_ip,
    )
