"""Bootsteps that every worker has in addition to Celery's."""

from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from eventbus.telemetry import metrics

#: Seconds between two reports to the watchdog.
HEALTH_INTERVAL = 2.0


class WatchdogStep(bootsteps.StartStopStep):
    """The watchdog of a worker's event loop, from startup to shutdown."""

    # The children must be forked before the process has a second thread.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Start the watchdog."""
        worker.app.watchdog.start()


class TurnStep(bootsteps.StartStopStep):
    """The reports of the event loop to the watchdog: its progress, and whether it consumes."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Report every two seconds."""
        consumer.app.connected.set(1)
        consumer.app.is_connected = True
        turned = consumer.app.watchdog.turned
        self._timer = consumer.timer.call_repeatedly(HEALTH_INTERVAL, turned)

    def stop(self, consumer: Any) -> None:
        """Stop reporting; the reconnection attempts report instead."""
        consumer.app.connected.set(0)
        consumer.app.is_connected = False
        if timer := getattr(self, "_timer", None):
            timer.cancel()


class WakeEventLoopStep(bootsteps.StartStopStep):
    """The step that wakes the event loop if a callback is ready, even without network activity.

    kombu's hub polls until its next timer is due, even if a callback that it has just run has
    scheduled another callback, such as an acknowledgement or the next read. With a prefetch of one,
    or with TLS, whose buffered bytes a poll does not report, the worker would stall for seconds.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Check for ready callbacks before each poll."""
        self._hub = consumer.hub
        self._hub.on_tick.add(self._wake)

    def stop(self, _consumer: Any) -> None:
        """Stop checking."""
        if hub := getattr(self, "_hub", None):
            hub.on_tick.discard(self._wake)

    def _wake(self) -> None:
        if self._hub._ready:
            self._hub._waker.wake()


class MetricsStep(bootsteps.StartStopStep):
    """The metrics server of a worker's main process, which does not depend on the broker."""

    # The children must be forked before the process has a listener and a second thread.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Start the metrics server, if a port is set."""
        settings = worker.app.settings
        if port := settings.metrics_port:
            metrics.serve(settings.metrics_host, port, worker.app.collectors())
