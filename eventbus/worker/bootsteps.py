"""What every worker's event loop gets besides Celery's own steps."""

from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from eventbus.telemetry import metrics

#: Seconds between two signs of life.
HEALTH_INTERVAL = 2.0


class HealthStep(bootsteps.StartStopStep):
    """Touches the health file while the event loop turns and the broker is connected."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Touch it now and then."""
        consumer.app.connected.set(1)
        path = consumer.app.settings.health_file
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            self._timer = consumer.timer.call_repeatedly(HEALTH_INTERVAL, path.touch)

    def stop(self, consumer: Any) -> None:
        """Remove it: without a connection the worker does no work."""
        consumer.app.connected.set(0)
        path = consumer.app.settings.health_file
        if path:
            if timer := getattr(self, "_timer", None):
                timer.cancel()
            path.unlink(missing_ok=True)


class WatchdogStep(bootsteps.StartStopStep):
    """Watches the event loop of a worker from its start to its end."""

    # Its children are forked before it has a thread.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Begin to watch."""
        worker.app.watchdog.start()


class TurnStep(bootsteps.StartStopStep):
    """Shows the watchdog that the event loop turns, and whether it consumes."""

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Show it every other second."""
        consumer.app.connected.set(1)
        consumer.app.is_connected = True
        turned = consumer.app.watchdog.turned
        self._timer = consumer.timer.call_repeatedly(HEALTH_INTERVAL, turned)

    def stop(self, consumer: Any) -> None:
        """Leave it to the attempts to reconnect."""
        consumer.app.connected.set(0)
        consumer.app.is_connected = False
        if timer := getattr(self, "_timer", None):
            timer.cancel()


class WakeEventLoopStep(bootsteps.StartStopStep):
    """Lets no callback wait while the event loop waits for the network.

    kombu's hub polls, for as long as its next timer allows, even when a callback that it has just
    run has asked for another one: an acknowledgement, or the next read. With a prefetch of one, or
    with TLS, which has bytes that no poll sees, the worker then stands still for seconds.
    """

    requires = (Tasks,)

    def start(self, consumer: Any) -> None:
        """Look before each poll."""
        self._hub = consumer.hub
        self._hub.on_tick.add(self._wake)

    def stop(self, _consumer: Any) -> None:
        """Look no more."""
        if hub := getattr(self, "_hub", None):
            hub.on_tick.discard(self._wake)

    def _wake(self) -> None:
        if self._hub._ready:
            self._hub._waker.wake()


class MetricsStep(bootsteps.StartStopStep):
    """Shows the metrics of a worker's main process, whether or not the broker is connected."""

    # Its children are forked before it has a listener and a thread.
    requires = ("celery.worker.components:Pool",)

    def start(self, worker: Any) -> None:
        """Listen, if a port is set."""
        settings = worker.app.settings
        if port := settings.metrics_port:
            metrics.serve(settings.metrics_host, port, worker.app.collectors())
