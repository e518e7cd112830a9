"""The metrics of the console: the figures of the ledger."""

from flask import Blueprint, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from console.ledger.passes import Passes
from console.settings import ConsoleSettings
from console.web.parking.indexing import Indexing
from eventbus.telemetry.metrics import Release

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
def page() -> Response:
    """Return the metrics in Prometheus's format; they are only numbers, so no login is required."""
    indexing: Indexing = current_app.extensions["indexing"]
    indexing.start()
    registry: CollectorRegistry = current_app.extensions["metrics"]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def registry(settings: ConsoleSettings) -> CollectorRegistry:
    """Return the metrics of a console; the ledger is not read before the first scrape."""
    created = CollectorRegistry()
    created.register(Release(settings.release))
    created.register(Passes(settings))
    return created
