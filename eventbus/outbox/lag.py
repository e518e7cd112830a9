"""What waits in an outbox for the relay, and when the relay last looked."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import Metric
from sqlalchemy import ColumnElement, Float, func, select
from sqlalchemy.orm import Session

from eventbus.database import looks
from eventbus.database.looks import Looks
from eventbus.outbox.table import outbox, relay_state
from eventbus.telemetry.metrics import gauge

_looks = Looks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """How many events wait, for how long (seconds; 0 if none does), and how many came back.

    Of more than `looks.MOST` events, the first so many and one count.
    """

    unsent: int
    oldest_unsent_seconds: float
    unroutable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPass:
    """The relay's last look at the outbox: how many seconds ago, and what went wrong."""

    seconds_ago: float
    broker_error: str | None


def unsent(session: Session) -> Unsent:
    """Return what waits in the outbox now, at a cost that does not grow with it."""
    first = (
        select(outbox.c.created_at, outbox.c.unroutable_reason, outbox.c.next_attempt_at)
        .where(outbox.c.sent_at.is_(None), outbox.c.next_attempt_at >= _looks.begin(session))
        .order_by(outbox.c.next_attempt_at, outbox.c.id)
        .limit(looks.MOST + 1)
        .subquery()
    )
    row = session.execute(
        select(
            func.count(),
            age(func.min(first.c.created_at)),
            func.count(first.c.unroutable_reason),
            func.min(first.c.next_attempt_at),
            func.now(),
        ).select_from(first)
    ).one()
    _looks.end(session, row[3], row[4])
    return Unsent(unsent=row[0], oldest_unsent_seconds=row[1], unroutable=row[2])


def relay_pass(session: Session) -> RelayPass | None:
    """Return the relay's last look at the outbox, or None if it has not started yet."""
    row = session.execute(
        select(
            age(relay_state.c.passed_at),
            relay_state.c.broker_error,
        )
    ).first()
    return RelayPass(seconds_ago=row[0], broker_error=row[1]) if row else None


def read_outbox(session: Session) -> Iterator[Metric]:
    """Return what the metrics show of an outbox and its relay."""
    waiting, last = unsent(session), relay_pass(session)
    yield gauge(
        "orders_outbox_unsent",
        f"Events that the broker has not confirmed; {looks.MOST + 1} stands for more.",
        waiting.unsent,
    )
    yield gauge(
        "orders_outbox_oldest_unsent_seconds",
        "Age of the oldest of them.",
        waiting.oldest_unsent_seconds,
    )
    yield gauge("orders_outbox_unroutable", "Events that the broker returned.", waiting.unroutable)
    if last:
        yield gauge(
            "orders_relay_pass_age_seconds",
            "Since the relay last looked at the outbox.",
            last.seconds_ago,
        )


def age(moment: ColumnElement[datetime]) -> ColumnElement[float]:
    """Return the seconds since a moment, in SQL: never below 0, and 0 if there is no moment."""
    seconds = func.extract("epoch", func.clock_timestamp() - moment).cast(Float)
    # Clocks differ a little; and of no rows the age is null, which `greatest` passes over.
    return func.greatest(seconds, 0.0)
