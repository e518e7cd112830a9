"""The inventory's worker, whose spans wait for a minute, or for its end."""

from eventbus.telemetry import span_export
from inventory_worker.worker import app  # noqa: F401

span_export._DELAY = 60_000
