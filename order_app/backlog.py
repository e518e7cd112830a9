"""The orders that wait for a decision."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.backlog import age
from order_app.domain import Status
from order_app.models import OrderRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """How many orders wait and for how long (seconds) the oldest does: 0 when none waits."""

    pending: int
    oldest_pending_seconds: float


def pending(session: Session) -> Pending:
    """Return which orders wait now."""
    row = session.execute(
        select(func.count(), age(func.min(OrderRow.created_at))).where(
            OrderRow.status == Status.PENDING
        )
    ).one()
    return Pending(pending=row[0], oldest_pending_seconds=row[1])
