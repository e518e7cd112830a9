"""The inventory's worker, whose event loop is stalled from SIGUSR2 to SIGCONT."""

import signal
from typing import Any

from celery.signals import worker_ready

from inventory_worker.worker import app  # noqa: F401, the command line names this module


@worker_ready.connect
def _ready(**_: Any) -> None:
    # Celery's main thread runs both the event loop and the signal handlers.
    signal.signal(signal.SIGCONT, lambda *_: None)
    signal.signal(signal.SIGUSR2, lambda *_: signal.pause())
