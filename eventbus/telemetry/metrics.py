"""Prometheus metrics of a process, and the page that serves them.

A worker counts only in its main process, which receives every outcome and every settlement.
Metrics have no label for the service, because Prometheus adds `service` and `process` to every
metric that it scrapes. Metrics of tables are defined next to the tables; docs/operations/metrics.md
lists all metrics.
"""

import os
import platform
from collections.abc import Iterable, Iterator
from functools import cache

import celery
from prometheus_client import (
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from eventbus.settings.base import SettingsError

#: Bucket limits in seconds. Tens of milliseconds are usual; values of 1 or more result from retry
#: tiers and outages.
_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0)

#: Bucket limits in seconds. A handler takes milliseconds; its time limits are 30 and 45 seconds.
_WORK = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)

EVENT_CONFIRMED = Histogram(
    "orders_event_confirmed_seconds",
    "Time from an event's commit into the outbox to the broker's confirm.",
    ("type",),
    buckets=_WAITS,
)
EVENT_HANDLED = Histogram(
    "orders_event_handled_seconds",
    "Time from an event's timestamp to the commit of its effect in this service.",
    ("type",),
    buckets=_WAITS,
)
HANDLER = Histogram(
    "orders_handler_seconds",
    "Duration of attempts to handle an event, by outcome.",
    ("type", "outcome"),
    buckets=_WORK,
)
RETRIES = Counter("orders_retries", "Events sent through a retry tier.", ("type", "tier"))
PARKED = Counter(
    "orders_parked", "Messages that this worker has parked, by error class.", ("reason",)
)
PAUSED = Gauge(
    "orders_consumption_paused",
    "1 while this worker consumes nothing because its infrastructure is down.",
    ("reason",),
)
PUBLISHING_FAILED = Counter(
    "orders_publishing_failed",
    "Failed attempts to publish an event: refused, returned, objected or invalid.",
    ("type", "reason"),
)
LANE_OPEN = Gauge(
    "orders_relay_lane_open",
    "1 while events of this type wait because the broker rejected one of them.",
    ("type",),
)
REMOVED = Counter("orders_rows_removed", "Old rows that this process has deleted.", ("table",))
RETENTION = Gauge(
    "orders_retention_seconds", "Age from which this process deletes a row.", ("table",)
)


@cache
def batch_sizes() -> Histogram:
    """Return the histogram of events that a worker handled in one transaction.

    It is created at its first use: if processes share counts in files, as those of the API do, a
    metric without labels opens a file as soon as it is created.
    """
    return Histogram(
        "orders_batch_events",
        "Events that a worker handled in one transaction.",
        buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
    )


@cache
def operator_pause() -> Gauge:
    """Return the gauge of the operator's pause, which is created at its first use."""
    return Gauge(
        "orders_operator_pause_seconds",
        "Time for which this service is paused until an operator resumes it; 0 if it is not.",
    )


@cache
def own_pause() -> Gauge:
    """Return the gauge of a pause by the service itself, which is created at its first use."""
    return Gauge(
        "orders_own_pause", "1 while this service is paused by one of its workers, after failures."
    )


def observe_handler(
    event_type: str, outcome: str, seconds: float, lateness: float | None = None
) -> None:
    """Count an attempt to handle an event, and the lateness of its effect if it had one."""
    HANDLER.labels(event_type, outcome).observe(seconds)
    if lateness is not None:
        # Clocks differ slightly.
        EVENT_HANDLED.labels(event_type).observe(max(0.0, lateness))


class Release(Collector):
    """The metric of the release that a process runs."""

    def __init__(self, release: str) -> None:
        self._release = release

    def collect(self) -> Iterator[Metric]:
        """Return the release, and the versions of Python and Celery."""
        versions = {"python": platform.python_version(), "celery": celery.__version__}
        info = {"release": self._release} | versions
        yield InfoMetricFamily("orders_build", "The running code.", value=info)


def gauge(name: str, text: str, value: float) -> Metric:
    """Return one gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


def serve(host: str, port: int, collectors: Iterable[Collector]) -> None:
    """Serve the metrics of this process and of these collectors at `host:port/metrics`.

    Raises `SettingsError` if it cannot listen there.
    """
    # `_created` metrics are off, because Prometheus would treat each as a separate gauge.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    for collector in collectors:
        REGISTRY.register(collector)
    try:
        server, _ = start_http_server(port, addr=host)
    except OSError as error:
        raise SettingsError(f"setting METRICS_PORT: {port}: {error.strerror or error}") from None
    # A child that outlives this process must not block the port for its successor.
    os.register_at_fork(after_in_child=server.socket.close)
