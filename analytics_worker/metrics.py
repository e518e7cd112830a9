"""What the reader's metrics show of the projections."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from analytics_worker.models import GapRow, PositionRow, SkippedRow
from common.backlog import age
from common.metrics import gauge


def read_projections(session: Session) -> Iterator[Metric]:
    """Return how far the projections are behind the stream, and what they miss."""
    behind = select(age(func.min(PositionRow.caught_up_at)))
    yield gauge(
        "orders_analytics_behind_seconds",
        "Since the reader was at the stream's end.",
        session.scalar(behind) or 0.0,
    )
    skipped = select(func.count()).select_from(SkippedRow)
    yield gauge(
        "orders_analytics_skipped",
        "Messages of the stream that could not be projected.",
        session.scalar(skipped) or 0,
    )
    gaps = select(func.count()).select_from(GapRow)
    yield gauge(
        "orders_analytics_gaps",
        "How often messages were gone from the stream before they were read.",
        session.scalar(gaps) or 0,
    )
