"""PENDING orders."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, literal, select, tuple_
from sqlalchemy.orm import Session

from eventbus.database import bounded_scan
from eventbus.database.bounded_scan import BoundedScan
from eventbus.outbox.lag import age
from order_app.domain import Status
from order_app.storage.models import OrderRow
from order_app.storage.search import COLUMNS, Summary, summary

_scan = BoundedScan()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """The number of PENDING orders, and the age of the oldest in seconds, or 0.

    At most `bounded_scan.MAX_ROWS + 1` orders are counted.
    """

    pending: int
    oldest_pending_seconds: float


def pending(session: Session) -> Pending:
    """Return the PENDING orders, at a cost that does not depend on their number."""
    first = (
        select(OrderRow.created_at)
        .where(OrderRow.status == Status.PENDING, OrderRow.created_at >= _scan.begin(session))
        .order_by(OrderRow.created_at, OrderRow.id)
        .limit(bounded_scan.MAX_ROWS + 1)
        .subquery()
    )
    oldest = func.min(first.c.created_at)
    figures = select(func.count(), age(oldest), oldest, func.now()).select_from(first)
    row = session.execute(figures).one()
    _scan.end(session, row[2], row[3])
    return Pending(pending=row[0], oldest_pending_seconds=row[1])


def undecided(session: Session, *, older_than: timedelta, limit: int) -> list[Summary]:
    """Return the orders that are PENDING for `older_than` or past their deadline, oldest first.

    At most `limit` orders are returned. Ages are compared with the database's clock.
    """
    bounded_scan.by_index(session)
    # Each query reads one range of an index, from its start. As in a search, rows are compared;
    # otherwise, the planner might scan all orders by their time.
    old = (
        select(*COLUMNS)
        .where(
            OrderRow.status >= Status.PENDING,
            tuple_(OrderRow.status, OrderRow.created_at)
            < tuple_(literal(Status.PENDING), func.now() - older_than),
        )
        .order_by(OrderRow.status, OrderRow.created_at, OrderRow.id)
    )
    overdue = (
        select(*COLUMNS)
        .where(OrderRow.status == Status.PENDING, OrderRow.deadline_at < func.now())
        .order_by(OrderRow.deadline_at)
    )
    rows = [*session.execute(old.limit(limit)), *session.execute(overdue.limit(limit))]
    found = {row.id: summary(row) for row in rows}
    return sorted(found.values(), key=lambda order: (order.created_at, order.id))[:limit]
