"""Celery's remote control, for programs that must not have it: it reaches no worker.

Workers take no remote control, and onlookers have no right to send any.
"""

from typing import Any

from celery.app.control import Control, Inspect
from celery.events.event import event_exchange


class _Nobody(Inspect):
    """Finds no worker, without asking."""

    def _request(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {}


class Silence(Control):
    """Sends nothing, and nobody answers."""

    @property
    def inspect(self) -> Any:
        """Return what finds no worker."""
        return self.app.subclass_with_self(_Nobody, reverse="control.inspect")

    def broadcast(self, *_: Any, **__: Any) -> None:
        """Tell nobody."""


def declare_no_exchange() -> None:
    """Let Celery's receivers declare their own queues only: the exchange is the topology's."""
    event_exchange.no_declare = True
