"""A process with periodic work: a Celery worker that runs loops alongside its consumer.

The loops run from startup to shutdown. A tick, which the Celery worker consumes, only wakes the
first loop: without the broker the worker reconnects, and the loops continue.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from eventbus.database.metrics import Read
from eventbus.loop import Loop, Loops
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry import tracing
from eventbus.topology.objects import tick_queue
from eventbus.topology.service import Service
from eventbus.worker.app import ServiceApp

S = TypeVar("S", bound=ServiceSettings)


class Ticker(ServiceApp):
    """The app of a process that runs loops."""

    def __init__(
        self, name: str, *, make_loops: Callable[[Any], Sequence[Loop]], **options: Any
    ) -> None:
        super().__init__(name, **options)
        self._make_loops = make_loops
        self._loops: Loops | None = None
        self.steps["worker"].add(LoopsStep)
        self.steps["consumer"].add(ConnectedStep)

    def start_loops(self) -> None:
        """Start the loops. Called once, in the process that runs them."""
        tracing.start(self.main, self.settings, tasks=True, ticks=self.tasks)
        self._loops = Loops(self._make_loops(self.settings), health_file=self.settings.health_file)
        self._loops.start()

    def stop_loops(self) -> None:
        """Prevent further steps, without waiting."""
        if self._loops:
            self._loops.stop()

    def join_loops(self) -> None:
        """Wait for the running step, within its limit."""
        if self._loops:
            self._loops.join()

    def wake(self) -> None:
        """Start the next step of the first loop immediately, if the loop sleeps."""
        if self._loops:
            self._loops.wake()


class LoopsStep(bootsteps.StartStopStep):
    """The step that runs the loops while the worker runs, with or without the broker."""

    # Logging is configured before this step; the consumer, which waits for the broker, follows it.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Start the loops."""
        worker.app.start_loops()

    def close(self, worker: Any) -> None:
        """Stop the loops while the consumer stops."""
        worker.app.stop_loops()

    def stop(self, worker: Any) -> None:
        """Wait for the running step."""
        worker.app.join_loops()

    def terminate(self, worker: Any) -> None:
        """Do not wait."""


class ConnectedStep(bootsteps.StartStopStep):
    """The step that records whether the process is consuming."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Record that the process is consuming."""
        consumer.app.connected.set(1)

    def stop(self, consumer: Any) -> None:
        """Record that the process is not consuming."""
        consumer.app.connected.set(0)


def make_ticker(
    service: Service,
    tick: str,
    start: Callable[[S], Sequence[Loop]],
    settings: type[S],
    *,
    config: str = "eventbus.celeryconfig.ticker",
    read: Read,
) -> Ticker:
    """Return the Celery app of a process that consumes one of the service's tick queues.

    `start` is called once at startup and returns the loops, of which a tick wakes the first. `read`
    returns the metrics that the process reads from its database.
    """
    app = Ticker(
        f"{service.name}-{tick}",
        make_loops=start,
        service=service,
        settings=settings,
        config=config,
        queue=tick_queue(service, tick),
        read=read,
    )

    def wake() -> None:
        app.wake()

    app.task(wake, name=service.tick_queue(tick), shared=False)
    return app
