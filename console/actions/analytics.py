"""Shows what the analytics have added up, and rebuilds it from the stream."""

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

#: SKUs that are shown.
SKUS = 20

#: Seconds for one statement of a replay: the exchange copies all that was rebuilt.
_STATEMENT_TIMEOUT = 600.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The last minutes, the latest first, what they add up to, and the SKUs with most revenue."""

    minutes: Sequence[Minute]
    in_all: Sequence[Sales]
    skus: Sequence[SkuSales]
    #: Seconds since all of the stream was in it; None if it never was.
    behind: float | None
    #: Messages that are in no figure.
    skipped: int


def show(settings: DatabaseServer, span: timedelta) -> Report:
    """Return what was placed in the last `span`."""
    with transaction(settings, ANALYTICS) as session:
        minutes = figures.by_minute(session, span)
        return Report(
            minutes=minutes,
            in_all=figures.in_all(minutes),
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

    Raises `ActionError` and `ReplayError`; the figures are then as they were.
    """
    with (
        connected(settings) as connection,
        _engine(settings) as live,
        _engine(settings, search_path=f"{BESIDE},public") as beside,
    ):
        return Replay(live, beside, connection, progress=progress, limit=limit).run(start)


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
    # The role for running makes no tables; their owner does, and has no login of its own.
    session |= {
        "role": owner_name(ANALYTICS.name),
        "idle_in_transaction_session_timeout": "10min",
    }
    # Two at once: one holds the lock that keeps another replay away.
    engine = db.engine(database, pool_size=2, session=session)
    try:
        yield engine
    finally:
        engine.dispose()
