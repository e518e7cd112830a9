"""The analytics figures, and rebuilding them from the stream."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Engine

from analytics_worker import figures
from analytics_worker.figures import Minute, Sales, SkuSales
from analytics_worker.replay import Progress, Rebuilt, Replay
from analytics_worker.shadow_tables import BESIDE
from common.kombu_topology import ANALYTICS
from console.broker.connection import connected
from console.databases.service_database import transaction
from console.settings import DatabaseServer, ReplaySettings, owner_name
from eventbus.database import db
from eventbus.messaging.stream import Start
from eventbus.settings.database import DatabaseSettings as ServiceDatabase

#: Maximum number of minutes in a report, which is an hour in ten currencies.
MINUTES = 600

#: Maximum number of SKUs in a report.
SKUS = 20

#: Maximum seconds for one statement of a replay. The final swap copies all rebuilt rows.
_STATEMENT_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The last minutes of a period, its totals, and the SKUs with the highest revenue."""

    #: At most `MINUTES`, the latest first.
    minutes: Sequence[Minute]
    #: The number of all minutes of the period.
    number: int
    in_all: Sequence[Sales]
    skus: Sequence[SkuSales]
    #: Seconds since the figures last contained the complete stream, or None if they never did.
    behind: float | None
    #: Number of messages of the stream that are not in the figures.
    skipped: int


def show(settings: DatabaseServer, span: timedelta) -> Report:
    """Return the figures of the orders that were placed in the last `span`."""
    with transaction(settings, ANALYTICS) as session:
        return Report(
            minutes=figures.by_minute(session, span, MINUTES),
            number=figures.minutes(session, span),
            in_all=figures.in_all(session, span),
            skus=figures.by_sku(session, span, SKUS),
            behind=figures.behind(session),
            skipped=figures.skipped(session),
        )


def replay(
    settings: ReplaySettings,
    start: Start,
    *,
    limit: float,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Rebuilt:
    """Rebuild the figures from `start` on, in at most `limit` seconds.

    Raises `ActionError` or `ReplayError`; the figures are then unchanged.
    """
    with (
        connected(settings) as connection,
        _engine(settings) as live,
        _engine(settings, search_path=f"{BESIDE},public") as shadow,
    ):
        return Replay(live, shadow, connection, progress=progress, limit=limit).run(start)


@contextmanager
def _engine(settings: ReplaySettings, **session: str) -> Iterator[Engine]:
    database = ServiceDatabase(
        database_host=settings.database_host,
        database_port=settings.database_port,
        database_name=settings.database_name(ANALYTICS.name),
        database_user=settings.database_admin_user,
        database_password=settings.database_admin_password,
        database_ca_file=settings.database_ca_file,
        database_statement_timeout=_STATEMENT_TIMEOUT,
    )
    # The service's role cannot create tables. Their owner can, but cannot log in.
    session |= {
        "role": owner_name(ANALYTICS.name),
        "idle_in_transaction_session_timeout": "10min",
    }
    # The replay uses two connections, one of which holds the lock that excludes another replay.
    engine = db.engine(database, pool_size=2, session=session)
    try:
        yield engine
    finally:
        engine.dispose()
