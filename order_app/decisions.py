"""Orders as rows on the path that most of them take: many are locked, and confirmed, at once."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.orm import Session

from common.statement import Statement
from order_app.domain import Line, Order, reason_of, status_of

# Everybody locks in the order of the id: batches that overlap wait, but never for each other.
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
    UPDATE orders SET status = 'CONFIRMED', decided_at = $2, sequence = sequence + 1
    WHERE id = ANY ($1)
    """,
    "uuid[]",
    "timestamptz",
)


def lock(session: Session, ids: Collection[UUID]) -> dict[UUID, tuple[Order, int]]:
    """Lock the orders that exist, and return each with the sequence of its last event."""
    found = _LOCK.run(session, list(ids))
    return {order.id: (order, row.sequence) for row in found for order in [_order(row)]}


def confirm(session: Session, ids: Collection[UUID], *, now: datetime) -> None:
    """Write that these orders, which are locked, are confirmed; each gets its next sequence."""
    if ids:
        _CONFIRM.run(session, list(ids), now)


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
