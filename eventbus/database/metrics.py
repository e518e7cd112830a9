"""Metrics of a process's database: what is read from it at each scrape, and the connections."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from eventbus.database import db, outages
from eventbus.database.db import Sessions, transaction
from eventbus.telemetry.metrics import gauge

#: Reads metrics from a service's database, at each scrape.
Read = Callable[[Session], Iterable[Metric]]


class Database(Collector):
    """Reads what waits in a database at each scrape: also while the process itself stands still."""

    def __init__(self, sessions: Sessions, read: Read) -> None:
        self._sessions = sessions
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that to register it asks no database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Return whether the database answers and, if it does, what it says."""
        try:
            with transaction(self._sessions) as session:
                metrics = list(self._read(session))
            answers = True
        except SQLAlchemyError as error:
            # One that answers, but not in time, is up; what it has not told is not shown.
            metrics, answers = [], outages.contention(error)
        yield gauge("orders_database_up", "1 if the database answers.", int(answers))
        yield from metrics


class Pool(Collector):
    """Counts the connections of this process to its database."""

    def collect(self) -> Iterator[Metric]:
        """Return how many of them are in use, and how many wait for use."""
        pools = [engine.pool for engine in tuple(db.engines)]
        queues = [pool for pool in pools if isinstance(pool, QueuePool)]
        connections = GaugeMetricFamily(
            "orders_database_connections", "Open database connections.", labels=("state",)
        )
        connections.add_metric(("in use",), sum(pool.checkedout() for pool in queues))
        connections.add_metric(("idle",), sum(pool.checkedin() for pool in queues))
        yield connections
