"""Metrics of a process's database and its connections; the queries run at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from eventbus.database import db, outages
from eventbus.database.db import Sessions, transaction
from eventbus.telemetry.metrics import gauge

#: A function that reads metrics from a service's database, called at each scrape.
Read = Callable[[Session], Iterable[Metric]]


class Database(Collector):
    """A collector that queries the database at each scrape, even if the process is stuck."""

    def __init__(self, sessions: Sessions, read: Read) -> None:
        self._sessions = sessions
        self._read = read

    def describe(self) -> Iterator[Metric]:
        """Return no metrics, because registration must not query the database."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Return whether the database responds and, if it does, the metrics read from it."""
        try:
            with transaction(self._sessions) as session:
                metrics = list(self._read(session))
            is_up = True
        except SQLAlchemyError as error:
            # A database that responds too late counts as up; its metrics are omitted.
            metrics, is_up = [], outages.contention(error)
        yield gauge("orders_database_up", "1 if the database responds.", int(is_up))
        yield from metrics


class Pool(Collector):
    """A collector that counts the connections of this process to its database."""

    def collect(self) -> Iterator[Metric]:
        """Return the numbers of busy and idle connections."""
        pools = [engine.pool for engine in tuple(db.engines)]
        queues = [pool for pool in pools if isinstance(pool, QueuePool)]
        connections = GaugeMetricFamily(
            "orders_database_connections", "Open database connections.", labels=("state",)
        )
        connections.add_metric(("in use",), sum(pool.checkedout() for pool in queues))
        connections.add_metric(("idle",), sum(pool.checkedin() for pool in queues))
        yield connections
