"""What the order service tells the others: facts about an order, as events in its outbox."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from common import events
from common.events import (
    Customer,
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
from eventbus.events.conversion import convert
from eventbus.events.envelope import Event
from eventbus.outbox.table import append
from order_app.domain import Draft, Order, Status

#: The time of an event that the database dates, in the statement that stores it. No order has it.
UNDATED = datetime(2000, 1, 1, tzinfo=UTC)


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
    append(session, decided(order, sequence=sequence, cause=cause, shortages=shortages))


def created(
    draft: Draft,
    *,
    cause: Cause,
    time: datetime = UNDATED,
    created_as: str = OrderCreated.TYPE,
) -> Event:
    """Return the event of a new order, in this version."""
    event = Event(
        source=ORDER.name,
        subject=draft.id,
        sequence=1,
        traceparent=cause.traceparent,
        causationid=cause.event_id,
        time=time,
        data=_created(draft, cause),
    )
    return convert(event, created_as)


def decided(
    order: Order,
    *,
    sequence: int,
    cause: Cause,
    shortages: tuple[Shortage, ...] = (),
) -> Event:
    """Return the event of an order that is no longer PENDING.

    `sequence` is the order's next; `shortages` are why it is CANCELLED, if for want of stock.
    """
    assert order.decided_at is not None  # noqa: S101  # set with the status
    return Event(
        source=ORDER.name,
        subject=order.id,
        sequence=sequence,
        traceparent=cause.traceparent,
        causationid=cause.event_id,
        # The moment that the order has, to the microsecond: who adds up events by their time comes
        # to the same as who adds up orders.
        time=order.shipped_at or order.decided_at,
        data=_decision(order, shortages),
    )


def _decision(order: Order, shortages: tuple[Shortage, ...]) -> events.Data:
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


def _created(draft: Draft, cause: Cause) -> OrderCreatedV2:
    def money(amount: int) -> Money:
        return Money(amount=amount, currency=draft.currency)

    return OrderCreatedV2(
        customer=Customer(email=draft.customer_email),
        total=money(draft.total),
        lines=tuple(
            PricedLine(sku=line.sku, quantity=line.quantity, unit_price=money(line.unit_price))
            for line in draft.lines
        ),
        client_ip=cause.client_ip,
    )
