"""The orders that wait for a decision."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from eventbus.database import looks
from eventbus.database.looks import Looks
from eventbus.outbox.lag import age
from order_app.domain import Status
from order_app.storage.models import OrderRow

_looks = Looks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """How many orders wait and for how long (seconds) the oldest does: 0 when none waits.

    Of more than `looks.MOST` orders, the first so many and one count.
    """

    pending: int
    oldest_pending_seconds: float


def pending(session: Session) -> Pending:
    """Return which orders wait now, at a cost that does not grow with them."""
    first = (
        select(OrderRow.created_at)
        .where(OrderRow.status == Status.PENDING, OrderRow.created_at >= _looks.begin(session))
        .order_by(OrderRow.created_at, OrderRow.id)
        .limit(looks.MOST + 1)
        .subquery()
    )
    oldest = func.min(first.c.created_at)
    figures = select(func.count(), age(oldest), oldest, func.now()).select_from(first)
    row = session.execute(figures).one()
    _looks.end(session, row[2], row[3])
    return Pending(pending=row[0], oldest_pending_seconds=row[1])
