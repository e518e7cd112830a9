"""The API's Prometheus metrics: its requests, and what waits in the database."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy.orm import Session

from eventbus.database import looks
from eventbus.database.db import sessions
from eventbus.database.metrics import Database
from eventbus.outbox.lag import read_outbox
from eventbus.telemetry.certificate_expiry import Certificates
from eventbus.telemetry.metrics import Release, gauge
from order_app.storage.models import db
from order_app.storage.pending import pending

#: Seconds: an order is placed in a few milliseconds; a second is trouble.
_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """What one app has counted; all processes of it together, if they share `directory`.

    Prometheus's client itself reads PROMETHEUS_MULTIPROC_DIR when it is imported, and then counts
    in files there: `directory` must be what that variable says.
    """

    def __init__(self, directory: Path | None, *, release: str, certificates: Certificates) -> None:
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self._release = Release(release)
        self._certificates = certificates
        self._own = CollectorRegistry()
        self._requests = Histogram(
            "orders_http_request_seconds",
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
        asked = CollectorRegistry()
        asked.register(self._release)
        asked.register(self._certificates)
        asked.register(Database(sessions(db.engine), _read))
        return generate_latest(registry) + generate_latest(asked)


def _read(session: Session) -> Iterator[Metric]:
    waiting = pending(session)
    yield gauge(
        "orders_pending",
        f"Orders that wait for a decision; {looks.MOST + 1} stands for more.",
        waiting.pending,
    )
    yield gauge(
        "orders_oldest_pending_seconds",
        "Age of the oldest of them.",
        waiting.oldest_pending_seconds,
    )
    yield from read_outbox(session)
