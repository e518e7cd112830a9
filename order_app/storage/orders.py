"""The orders table on the hot path: many orders are locked and confirmed together."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from eventbus.database.statement import Statement
from order_app.domain import Line, Order, reason_of, status_of

# Every transaction locks orders sorted by id, so that overlapping batches cannot deadlock.
_LOCK = Statement(
    "lock_orders",
    """
    SELECT
        id, customer_email, currency, created_at, deadline_at, status, reason, decided_at,
        shipped_at, sequence,
        (
            SELECT json_agg(json_build_array(sku, quantity, unit_price) ORDER BY position)
            FROM order_lines WHERE order_id = orders.id
        ) AS lines
    FROM orders WHERE id = ANY ($1) ORDER BY id FOR UPDATE
    """,
    "uuid[]",
)
_CONFIRM = Statement(
    "confirm_orders",
    """
    UPDATE orders
    SET status = 'CONFIRMED', decided_at = statement_timestamp(), sequence = sequence + 1
    WHERE id = ANY ($1)
    RETURNING decided_at
    """,
    "uuid[]",
)


def lock(session: Session, ids: Collection[UUID]) -> dict[UUID, tuple[Order, int]]:
    """Lock the existing orders, and return each with the sequence number of its last event."""
    rows = _LOCK.run(session, list(ids))
    return {order.id: (order, row.sequence) for row in rows for order in [_order(row)]}


def confirm(session: Session, ids: Collection[UUID]) -> datetime:
    """Mark one or more locked orders as CONFIRMED, and return the time of the decision.

    The sequence number of each order is incremented.
    """
    times: Sequence[datetime] = _CONFIRM.run(session, list(ids)).scalars().all()
    return times[0]


def moment(session: Session) -> datetime:
    """Return the time of the database's clock, which sets all times of an order.

    Call it after locking the order, so that the times of decisions are in the order of the
    decisions.
    """
    now: datetime = session.execute(select(func.statement_timestamp())).scalar_one()
    return now


def _order(row: Row[tuple[object, ...]]) -> Order:
    return Order(
        id=row.id,
        customer_email=row.customer_email,
        currency=row.currency,
        lines=tuple(Line(sku=s, quantity=n, unit_price=p) for s, n, p in row.lines or ()),
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        status=status_of(row.status),
        reason=reason_of(row.reason),
        decided_at=row.decided_at,
        shipped_at=row.shipped_at,
    )
