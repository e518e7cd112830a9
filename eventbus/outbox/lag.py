"""The lag of an outbox: its unsent events, and the relay's last pass."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import Metric
from sqlalchemy import ColumnElement, Float, func, select
from sqlalchemy.orm import Session

from eventbus.database import bounded_scan
from eventbus.database.bounded_scan import BoundedScan
from eventbus.outbox.table import outbox, relay_state
from eventbus.telemetry.metrics import gauge

_scan = BoundedScan()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLag:
    """The unsent events, the age of the oldest in seconds (or 0), and the returned events.

    At most `bounded_scan.MAX_ROWS + 1` events are counted.
    """

    unsent: int
    oldest_unsent_seconds: float
    unroutable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPass:
    """The relay's last pass over the outbox: its age in seconds, and its error, if any.

    If the outbox has several parts, the pass is the earliest of their last passes, and the error is
    that of any part.
    """

    seconds_ago: float
    broker_error: str | None


def outbox_lag(session: Session) -> OutboxLag:
    """Return the current lag of the outbox, at a cost that does not depend on the lag."""
    first = (
        select(outbox.c.created_at, outbox.c.unroutable_reason, outbox.c.next_attempt_at)
        .where(outbox.c.sent_at.is_(None), outbox.c.next_attempt_at >= _scan.begin(session))
        .order_by(outbox.c.next_attempt_at, outbox.c.id)
        .limit(bounded_scan.MAX_ROWS + 1)
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
    _scan.end(session, row[3], row[4])
    return OutboxLag(unsent=row[0], oldest_unsent_seconds=row[1], unroutable=row[2])


def relay_pass(session: Session) -> RelayPass | None:
    """Return the relay's last pass over the outbox, or None if it has not started yet."""
    row = session.execute(
        select(
            func.count(),
            age(func.min(relay_state.c.passed_at)),
            func.min(relay_state.c.broker_error),
        ).select_from(relay_state)
    ).one()
    return RelayPass(seconds_ago=row[1], broker_error=row[2]) if row[0] else None


def read_outbox(session: Session) -> Iterator[Metric]:
    """Return the metrics of an outbox and its relay."""
    lag, last_pass = outbox_lag(session), relay_pass(session)
    yield gauge(
        "orders_outbox_unsent",
        f"Events that the broker has not confirmed; {bounded_scan.MAX_ROWS + 1} means more than"
        f" {bounded_scan.MAX_ROWS}.",
        lag.unsent,
    )
    yield gauge(
        "orders_outbox_oldest_unsent_seconds",
        "Age of the oldest unsent event.",
        lag.oldest_unsent_seconds,
    )
    yield gauge("orders_outbox_unroutable", "Events that the broker returned.", lag.unroutable)
    if last_pass:
        yield gauge(
            "orders_relay_pass_age_seconds",
            "Time since the relay last polled the outbox.",
            last_pass.seconds_ago,
        )


def age(moment: ColumnElement[datetime]) -> ColumnElement[float]:
    """Return an SQL expression for the seconds since a time: at least 0, and 0 for null."""
    seconds = func.extract("epoch", func.clock_timestamp() - moment).cast(Float)
    # Clocks differ slightly. Without rows the age is null, which `greatest` ignores.
    return func.greatest(seconds, 0.0)
