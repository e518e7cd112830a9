"""Receivers of Celery's signals that record their calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from celery import Celery, current_task, signals
from celery.utils.dispatch import Signal

from eventbus.worker.events import EventTask

SIGNALS = {
    "prerun": signals.task_prerun,
    "success": signals.task_success,
    "retry": signals.task_retry,
    "failure": signals.task_failure,
    "postrun": signals.task_postrun,
}


@dataclass(frozen=True)
class SignalCall:
    """A call to a receiver; `request` is the request of the task at that time."""

    name: str
    task: Any
    request: Any
    arguments: dict[str, Any]

    @property
    def task_id(self) -> str:
        """The id of the run."""
        return str(self.request.id)

    @property
    def state(self) -> str | None:
        """The outcome of the run, which only a `postrun` has."""
        return self.arguments.get("state")


@contextmanager
def receivers(record: Callable[[SignalCall], object]) -> Iterator[None]:
    """Connect a receiver to each signal during the block."""
    connected: list[tuple[Signal, Callable[..., None]]] = []
    for name, signal in SIGNALS.items():
        receiver = _receiver(name, record)
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))
    try:
        yield
    finally:
        for signal, receiver in connected:
            signal.disconnect(receiver)


def connect(record: Callable[[SignalCall], object]) -> None:
    """Connect a receiver to each signal permanently."""
    for name, signal in SIGNALS.items():
        signal.connect(_receiver(name, record), weak=False)


def _receiver(name: str, record: Callable[[SignalCall], object]) -> Callable[..., None]:
    def receive(sender: Any, **arguments: Any) -> None:
        assert current_task.name == sender.name
        record(SignalCall(name, sender, sender.request, arguments))

    return receive


def worker_app(*events: str, retry_tiers: Sequence[float]) -> Celery:
    """Return an app with the tasks of these events that needs no broker or settings."""
    app = Celery("tests", task_cls=EventTask, set_as_current=False)
    app.settings = SimpleNamespace(retry_tiers=retry_tiers)

    def call() -> None:
        raise NotImplementedError

    for event in events:
        app.task(call, name=event, shared=False)
    app.finalize()
    return app
