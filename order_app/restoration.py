"""The restoration of orders from the order service's own events, with their states."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from common.events import OrderCancelled, OrderConfirmed, OrderCreatedV2, OrderShipped
from eventbus.events.conversion import newest
from eventbus.events.envelope import Event
from order_app.domain import Status
from order_app.settings import ApiSettings
from order_app.storage.models import LineRow, OrderRow

#: Time for the replies of the inventory after a restore, during which the order service is still
#: stopped.
GRACE = timedelta(hours=1)

_Later = OrderConfirmed | OrderCancelled | OrderShipped


def restore(session: Session, events: Sequence[Event], _causes: object) -> None:
    """Write the orders that these events describe, or their later states if the orders exist.

    Events must be in the order of their publication. Each event repeats the content of its order,
    so an order exists even if its first event is lost.
    """
    known = select(OrderRow).where(OrderRow.id.in_({event.subject for event in events}))
    rows = {row.id: row for row in session.scalars(known.order_by(OrderRow.id).with_for_update())}
    deadline = _deadline(session)
    for event in map(newest, events):
        row = rows.get(event.subject)
        if row is None:
            row = rows[event.subject] = _row(event, deadline)
            session.add(row)
        if isinstance(event.data, _Later) and event.sequence > row.sequence:
            _decide(row, event)
        row.sequence = max(row.sequence, event.sequence)


def extend_deadlines(session: Session) -> None:
    """Extend the deadlines of PENDING orders to at least `GRACE` from now, to await replies."""
    pending = update(OrderRow).where(OrderRow.status == Status.PENDING)
    later = func.greatest(OrderRow.deadline_at, func.now() + GRACE)
    session.execute(pending.values(deadline_at=later))


def _deadline(session: Session) -> timedelta:
    """Return the time limit of the newest decided order; events do not contain the limit."""
    newest_first = (
        select(OrderRow.deadline_at - OrderRow.created_at)
        .where(OrderRow.status != Status.PENDING)
        .order_by(OrderRow.created_at.desc(), OrderRow.id.desc())
    )
    default = timedelta(seconds=ApiSettings.model_fields["order_deadline"].default)
    return session.scalar(newest_first.limit(1)) or default


def _row(event: Event, deadline: timedelta) -> OrderRow:
    email, currency, total, lines = _content(event)
    return OrderRow(
        id=event.subject,
        customer_email=email,
        currency=currency,
        status=Status.PENDING,
        total=total,
        created_at=event.time,
        deadline_at=event.time + deadline,
        traceparent=event.traceparent,
        sequence=0,
        lines=[
            LineRow(position=position, sku=sku, quantity=quantity, unit_price=price)
            for position, (sku, quantity, price) in enumerate(lines, start=1)
        ],
    )


def _content(event: Event) -> tuple[str, str, int, list[tuple[str, int, int]]]:
    match event.data:
        case OrderCreatedV2(customer=customer, total=total, lines=lines):
            priced = [(line.sku, line.quantity, line.unit_price.amount) for line in lines]
            return customer.email, total.currency, total.amount, priced
        case OrderConfirmed() | OrderCancelled() | OrderShipped() as data:
            priced = [(line.sku, line.quantity, line.unit_price) for line in data.lines]
            return data.customer_email, data.currency, data.total, priced
        case data:
            raise NotImplementedError(f"no order is restored from {type(data).__name__}")


def _decide(row: OrderRow, event: Event) -> None:
    match event.data:
        case OrderConfirmed():
            row.status, row.decided_at = Status.CONFIRMED, event.time
        case OrderCancelled(reason=reason):
            row.status, row.reason, row.decided_at = Status.CANCELLED, reason, event.time
        case OrderShipped():
            row.status, row.shipped_at = Status.SHIPPED, event.time
            row.decided_at = row.decided_at or event.time
