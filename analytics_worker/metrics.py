"""The reader's metrics of the projections."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from analytics_worker.models import GapRow, PositionRow, SkippedRow
from eventbus.outbox.lag import age
from eventbus.telemetry.metrics import gauge

#: Maximum number of rows that a scrape counts. A single row causes an alert, so an exact higher
#: number would not change any decision.
COUNT_LIMIT = 1_000


def read_projections(session: Session) -> Iterator[Metric]:
    """Yield the lag of the projections behind the stream, and the number of missing messages."""
    behind = select(age(func.min(PositionRow.caught_up_at)))
    yield gauge(
        "orders_analytics_behind_seconds",
        "Time since the reader was at the end of the stream.",
        session.scalar(behind) or 0.0,
    )
    yield gauge(
        "orders_analytics_skipped",
        f"Messages of the stream that could not be projected; counted up to {COUNT_LIMIT}.",
        _count(session, SkippedRow),
    )
    yield gauge(
        "orders_analytics_gaps",
        "Number of times that messages left the stream before they were read;"
        f" counted up to {COUNT_LIMIT}.",
        _count(session, GapRow),
    )


def _count(session: Session, row: type[SkippedRow | GapRow]) -> int:
    limited = select(literal(1)).select_from(row).limit(COUNT_LIMIT).subquery()
    return session.scalar(select(func.count()).select_from(limited)) or 0
