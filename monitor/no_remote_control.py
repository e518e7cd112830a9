"""A replacement for Celery's remote control that does not reach any worker.

Workers do not accept remote control, and the monitoring user has no permission to send it.
"""

from typing import Any

from celery.app.control import Control, Inspect
from celery.events.event import event_exchange


class _NoWorkers(Inspect):
    """An inspection that finds no workers, and sends no request."""

    def _request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


class Silence(Control):
    """A remote control that sends nothing and receives no reply."""

    @property
    def inspect(self) -> Any:
        """Return an inspection that finds no workers."""
        return self.app.subclass_with_self(_NoWorkers, reverse="control.inspect")

    def broadcast(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


def declare_no_exchange() -> None:
    """Restrict Celery's receivers to declaring queues: the exchange is part of the topology."""
    event_exchange.no_declare = True
