"""The API's Prometheus metrics: its requests, and what waits in the database."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from order_app.backlog import Backlog, backlog
from order_app.models import db

#: Seconds: an order is placed in a few milliseconds; a second is trouble.
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_GAUGES = {
    "outbox_unsent": ("Events that the broker has not confirmed.", "unsent"),
    "outbox_oldest_unsent_seconds": ("Age of the oldest of them.", "oldest_unsent_seconds"),
    "outbox_unroutable": ("Events that the broker returned.", "unroutable"),
    "orders_pending": ("Orders that wait for a decision.", "pending"),
    "orders_oldest_pending_seconds": ("Age of the oldest of them.", "oldest_pending_seconds"),
}


class Metrics:
    """What one app has counted; all processes of it together, if they share `directory`.

    Prometheus's client itself reads PROMETHEUS_MULTIPROC_DIR when it is imported, and then counts
    in files there: `directory` must be what that variable says.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self._own = CollectorRegistry()
        self._requests = Histogram(
            "http_request_seconds",
            "Requests to the orders API, by how long they took.",
            ("method", "route", "status"),
            registry=self._own,
            buckets=_BUCKETS,
        )

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        # Clients invent methods, and each would be a new series for ever.
        known = method if method in _METHODS else "other"
        self._requests.labels(known, route, str(status)).observe(seconds)

    def page(self) -> bytes:
        """Return all metrics as Prometheus reads them; needs an app context."""
        registry = self._own
        if self._directory is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        database = CollectorRegistry()
        database.register(_Database())
        return generate_latest(registry) + generate_latest(database)


class _Database(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        waiting = _read()
        up = waiting is not None
        yield GaugeMetricFamily("order_database_up", "1 if the database answers.", value=int(up))
        if waiting is not None:
            for name, (text, field) in _GAUGES.items():
                yield GaugeMetricFamily(name, text, value=getattr(waiting, field))


def _read() -> Backlog | None:
    try:
        with db.session.begin():
            return backlog(db.session())
    except SQLAlchemyError:
        return None
