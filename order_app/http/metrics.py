"""The API's Prometheus metrics: its requests, PENDING orders and the outbox."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy.orm import Session

from eventbus.database import bounded_scan
from eventbus.database.db import Sessions
from eventbus.database.metrics import Database
from eventbus.outbox.lag import read_outbox
from eventbus.telemetry.certificate_expiry import Certificates
from eventbus.telemetry.metrics import Release, gauge
from order_app.storage.pending import pending

#: Bucket limits in seconds. An order normally takes a few milliseconds; a second indicates a
#: problem.
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The metrics of an app, summed over its processes if they share `directory`.

    The Prometheus client itself reads PROMETHEUS_MULTIPROC_DIR when it is imported, and then counts
    in files there: `directory` must equal that variable.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        release: str,
        certificates: Certificates,
        database: Sessions,
    ) -> None:
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self._release = Release(release)
        self._certificates = certificates
        self._database = Database(database, _read)
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "orders_http_request_seconds",
            "Durations of requests to the orders API.",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=_BUCKETS,
        )

    def observe(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        # Clients can send any method, and each method would create a permanent new series.
        label = method if method in _METHODS else "other"
        self._requests.labels(label, route, str(status)).observe(seconds)

    def page(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        registry = self._registry
        if self._directory is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=str(self._directory))  # type: ignore[no-untyped-call]
        at_scrape = CollectorRegistry()
        at_scrape.register(self._release)
        at_scrape.register(self._certificates)
        at_scrape.register(self._database)
        return generate_latest(registry) + generate_latest(at_scrape)


def _read(session: Session) -> Iterator[Metric]:
    orders = pending(session)
    yield gauge(
        "orders_pending",
        f"Orders that are PENDING; {bounded_scan.MAX_ROWS + 1} means more than"
        f" {bounded_scan.MAX_ROWS}.",
        orders.pending,
    )
    yield gauge(
        "orders_oldest_pending_seconds",
        "Age of the oldest order that is PENDING.",
        orders.oldest_pending_seconds,
    )
    yield from read_outbox(session)
