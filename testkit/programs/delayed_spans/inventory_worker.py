"""The inventory's worker, whose spans are exported after a minute or at shutdown."""

from eventbus.telemetry import span_export
from inventory_worker.worker import app  # noqa: F401

span_export._DELAY = 60_000
