"""A process that repeats its work by the clock: a Celery worker with loops beside its consumer.

The loops turn from the process's start to its end. A tick, which the Celery worker consumes, only
wakes the first of them: without the broker the worker reconnects, and the work goes on.
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
from eventbus.worker.bootsteps import HealthStep

S = TypeVar("S", bound=ServiceSettings)


class Ticker(ServiceApp):
    """The app of a process whose work is loops."""

    def __init__(
        self, name: str, *, make_loops: Callable[[Any], Sequence[Loop]], **options: Any
    ) -> None:
        super().__init__(name, **options)
        self._make_loops = make_loops
        self._loops: Loops | None = None
        self.steps["worker"].add(LoopsStep)
        # The health file belongs to the loops, not to the connection.
        self.steps["consumer"].discard(HealthStep)
        self.steps["consumer"].add(ConnectedStep)

    def start_loops(self) -> None:
        """Start the work; called once, in the process that does it."""
        tracing.start(self.main, self.settings, tasks=True, ticks=self.tasks)
        self._loops = Loops(self._make_loops(self.settings), health_file=self.settings.health_file)
        self._loops.start()

    def stop_loops(self) -> None:
        """Let no further step start; does not wait."""
        if self._loops:
            self._loops.stop()

    def join_loops(self) -> None:
        """Wait for the step under way, within its limit."""
        if self._loops:
            self._loops.join()

    def wake(self) -> None:
        """Start the next step of the work at once, if it waits."""
        if self._loops:
            self._loops.wake()


class LoopsStep(bootsteps.StartStopStep):
    """Runs the loops for as long as the worker runs, whether or not the broker is connected."""

    # Logging is configured by then; the consumer, which waits for the broker, comes after it.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Start the loops."""
        worker.app.start_loops()

    def close(self, worker: Any) -> None:
        """Let the loops end while the consumer is being stopped."""
        worker.app.stop_loops()

    def stop(self, worker: Any) -> None:
        """Wait for the step under way."""
        worker.app.join_loops()

    def terminate(self, worker: Any) -> None:
        """Wait for nothing."""


class ConnectedStep(bootsteps.StartStopStep):
    """Records whether the process consumes."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Record that it does."""
        consumer.app.connected.set(1)

    def stop(self, consumer: Any) -> None:
        """Record that it does not."""
        consumer.app.connected.set(0)


def make_ticker(
    service: Service,
    tick: str,
    start: Callable[[S], Sequence[Loop]],
    settings: type[S],
    *,
    config: str,
    read: Read,
) -> Ticker:
    """Return the Celery app of a process that consumes one of the service's tick queues.

    `start` is called once, when the process starts, and returns its loops: a tick wakes the first.
    `read` returns what the process shows of its database in its metrics.
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
