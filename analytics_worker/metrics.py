"""What the reader's metrics show of the projections."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from analytics_worker.models import GapRow, PositionRow, SkippedRow
from eventbus.outbox.lag import age
from eventbus.telemetry.metrics import gauge

#: Rows that a scrape counts. One is an alert; how many they are exactly changes nothing.
COUNT_LIMIT = 1_000


def read_projections(session: Session) -> Iterator[Metric]:
    """Return how far the projections are behind the stream, and what they miss."""
    behind = select(age(func.min(PositionRow.caught_up_at)))
    yield gauge(
        "orders_analytics_behind_seconds",
        "Since the reader was at the stream's end.",
        session.scalar(behind) or 0.0,
    )
    yield gauge(
        "orders_analytics_skipped",
        f"Messages of the stream that could not be projected; counted up to {COUNT_LIMIT}.",
        _count(session, SkippedRow),
    )
    yield gauge(
        "orders_analytics_gaps",
        "How often messages were gone from the stream before they were read;"
        f" counted up to {COUNT_LIMIT}.",
        _count(session, GapRow),
    )


def _count(session: Session, row: type[SkippedRow | GapRow]) -> int:
    some = select(literal(1)).select_from(row).limit(COUNT_LIMIT).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0
