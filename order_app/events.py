"""The events that the order service publishes, by appending them to its outbox."""

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
from eventbus.events.conversion import convert
from eventbus.events.envelope import Event
from eventbus.outbox.table import append
from order_app.declaration import ORDER
from order_app.domain import Draft, Order, Status

#: A placeholder for the time of an event, which the statement that stores the event replaces.
UNDATED = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The cause of a change to an order: a request from `client_ip`, a timer, or an event."""

    traceparent: str | None = None
    event_id: UUID | None = None
    client_ip: str | None = None

    @classmethod
    def of(cls, event: Event) -> "Cause":
        """Return an event as a cause."""
        return cls(traceparent=event.traceparent, event_id=event.id)


def record(
    session: Session,
    order: Order,
    *,
    sequence: int,
    cause: Cause,
    shortages: tuple[Shortage, ...] = (),
) -> None:
    """Append the event of an order's new status, in the caller's transaction."""
    append(session, decided(order, sequence=sequence, cause=cause, shortages=shortages))


def created(
    draft: Draft,
    *,
    cause: Cause,
    time: datetime = UNDATED,
    created_as: str = OrderCreated.TYPE,
) -> Event:
    """Return the event of a new order, in the version `created_as`."""
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

    `sequence` is the number of the event. `shortages` are set if the order was cancelled because it
    was out of stock.
    """
    assert order.decided_at is not None  # noqa: S101  # set with the status
    return Event(
        source=ORDER.name,
        subject=order.id,
        sequence=sequence,
        traceparent=cause.traceparent,
        causationid=cause.event_id,
        # The time equals the time in the order's row, to the microsecond, so that totals by time
        # are the same from events and from orders.
        time=order.shipped_at or order.decided_at,
        data=_decision(order, shortages),
    )


def _decision(order: Order, shortages: tuple[Shortage, ...]) -> events.Data:
    # Later events repeat the content of the order, so consumers need not store it.
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
            raise ValueError(f"this release has no event for the status {status}")


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
