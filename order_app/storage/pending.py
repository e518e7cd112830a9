"""The orders that are PENDING."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from eventbus.database import bounded_scan
from eventbus.database.bounded_scan import BoundedScan
from eventbus.outbox.lag import age
from order_app.domain import Status
from order_app.storage.models import OrderRow

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
