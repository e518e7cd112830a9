"""What waits: orders for a decision, events for the relay; and when the relay last looked."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Float, func, select
from sqlalchemy.orm import Session

from common.outbox import outbox, relay_state
from order_app.domain import Status
from order_app.models import OrderRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many wait and for how long (seconds) the oldest does: 0 when none waits."""

    unsent: int
    oldest_unsent_seconds: float
    unroutable: int
    pending: int
    oldest_pending_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPass:
    """The relay's last look at the outbox: how many seconds ago, and what went wrong."""

    seconds_ago: float
    broker_error: str | None


def backlog(session: Session) -> Backlog:
    """Return what waits now."""
    events = session.execute(
        select(
            func.count(),
            _age(func.min(outbox.c.created_at)),
            func.count(outbox.c.unroutable_reason),
        ).where(outbox.c.sent_at.is_(None))
    ).one()
    orders = session.execute(
        select(func.count(), _age(func.min(OrderRow.created_at))).where(
            OrderRow.status == Status.PENDING
        )
    ).one()
    return Backlog(
        unsent=events[0],
        oldest_unsent_seconds=events[1],
        unroutable=events[2],
        pending=orders[0],
        oldest_pending_seconds=orders[1],
    )


def relay_pass(session: Session) -> RelayPass | None:
    """Return the relay's last look at the outbox, or None if it has not started yet."""
    row = session.execute(
        select(
            _age(relay_state.c.passed_at),
            relay_state.c.broker_error,
        )
    ).first()
    return RelayPass(seconds_ago=row[0], broker_error=row[1]) if row else None


def _age(moment: ColumnElement[datetime]) -> ColumnElement[float]:
    seconds = func.extract("epoch", func.clock_timestamp() - moment).cast(Float)
    # Clocks differ a little; and of no rows the age is null, which `greatest` passes over.
    return func.greatest(seconds, 0.0)
