"""What a team would write: receivers of Celery's signals, which note what comes."""

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
    """A signal as a receiver gets it; `request` is the task's at that moment."""

    name: str
    task: Any
    request: Any
    arguments: dict[str, Any]

    @property
    def task_id(self) -> str:
        """The run that it tells of."""
        return str(self.request.id)

    @property
    def state(self) -> str | None:
        """How the run ended; of a `postrun` only."""
        return self.arguments.get("state")


@contextmanager
def receivers(note: Callable[[SignalCall], object]) -> Iterator[None]:
    """Connect a receiver to each signal for the block."""
    connected: list[tuple[Signal, Callable[..., None]]] = []
    for name, signal in SIGNALS.items():
        receiver = _receiver(name, note)
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))
    try:
        yield
    finally:
        for signal, receiver in connected:
            signal.disconnect(receiver)


def connect(note: Callable[[SignalCall], object]) -> None:
    """Connect a receiver to each signal for good."""
    for name, signal in SIGNALS.items():
        signal.connect(_receiver(name, note), weak=False)


def _receiver(name: str, note: Callable[[SignalCall], object]) -> Callable[..., None]:
    def receive(sender: Any, **arguments: Any) -> None:
        assert current_task.name == sender.name
        note(SignalCall(name, sender, sender.request, arguments))

    return receive


def worker_app(*events: str, retry_tiers: Sequence[float]) -> Celery:
    """Return an app that has the tasks of these events, and needs no broker and no settings."""
    app = Celery("tests", task_cls=EventTask, set_as_current=False)
    app.settings = SimpleNamespace(retry_tiers=retry_tiers)

    def call() -> None:
        raise NotImplementedError

    for event in events:
        app.task(call, name=event, shared=False)
    app.finalize()
    return app
