"""Starting and stopping a worker's consumption as its service is resumed and paused.

A worker reads the operator's pause from its service's database before it consumes, and then every
two seconds. A child process reads it, because only children have connections to the database. While
a pause is in effect, the worker has no consumer and keeps no messages; running batches end
normally. A worker that pauses its service stops consuming immediately, and a child process then
stores the pause.
"""

from typing import Any

from celery import bootsteps, current_app
from celery.worker.consumer.tasks import Tasks

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.worker.decision import Decision

#: Seconds between two reads of the pause, each of which is one short transaction.
INTERVAL = 2.0


class Consumption:
    """The consumption on one connection, which follows the decision."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._decision: Decision = consumer.app.decision
        self._tasks = consumer.task_consumer
        self._consume = self._tasks.consume
        self._is_consuming = False
        self._is_synchronizing = False
        self._is_open = True
        # Celery starts to consume once the event loop is ready, regardless of the operator's
        # decision.
        self._tasks.consume = self._follow
        self._decision.on_pause = self._pause
        self._timer = consumer.timer.call_repeatedly(INTERVAL, self._synchronize_soon)

    def synchronize(self) -> None:
        """Read the pause, or store this worker's own pause, in a child process.

        Do nothing while an earlier call is in progress.
        """
        if self._is_synchronizing or not self._is_open:
            return
        self._is_synchronizing = True
        conf = self._consumer.app.conf
        reason = self._decision.unstored
        self._consumer.pool.apply_async(
            read_operator_pause if reason is None else store_pause,
            args=() if reason is None else (reason,),
            callback=self._done,
            error_callback=self._failed,
            soft_timeout=conf.task_soft_time_limit,
            timeout=conf.task_time_limit,
        )

    def close(self) -> None:
        """Stop reading the pause; the connection and its consumer are closed elsewhere."""
        self._is_open = False
        self._timer.cancel()

    def _synchronize_soon(self) -> None:
        # The call goes through the event loop, because the timer would swallow an exception.
        self._consumer.call_soon(self.synchronize)

    def _follow(self) -> None:
        """Consume or stop, according to the decision; if nothing has changed, do nothing."""
        if not self._is_open or self._is_consuming == self._decision.allows:
            return
        self._is_consuming = self._decision.allows
        batches = self._consumer.life.batches
        if self._is_consuming:
            batches.resume()
            self._consume()
        else:
            # The consumer is cancelled first, because messages may arrive until the broker has
            # confirmed the cancellation.
            self._tasks.cancel()
            batches.hold()

    def _pause(self) -> None:
        self._follow()
        self.synchronize()

    def _done(self, pause: OperatorPause | None) -> None:
        self._is_synchronizing = False
        if not self._decision.is_known:
            # End the pause for the outage that prevented the first read.
            self._consumer.pause.end()
        self._decision.learn(pause)
        self._follow()
        if self._decision.unstored:
            # The read was in progress when this worker paused its service.
            self.synchronize()

    def _failed(self, error: BaseException) -> None:
        self._is_synchronizing = False
        cause = Cause.of(error)
        self._decision.miss(cause)
        if not self._decision.is_known and cause.verdict is Verdict.PAUSE:
            self._consumer.pause.begin(cause.text)


class ConsumptionStep(bootsteps.StartStopStep):
    """The step that makes each connection's consumption follow the operator's decision."""

    requires = (Tasks,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._consumption: Consumption | None = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Replace Celery's start of the consumption, and read the decision."""
        self._consumption = Consumption(consumer)
        consumer.call_soon(self._consumption.synchronize)

    def stop(self, _consumer: Any) -> None:
        """Stop reading the decision."""
        if self._consumption:
            self._consumption.close()


def read_operator_pause() -> OperatorPause | None:
    """Return the result of `EventApp.read_operator_pause`; this runs in a child process."""
    pause: OperatorPause | None = current_app.read_operator_pause()
    return pause


def store_pause(reason: str) -> OperatorPause | None:
    """Pause the service, and return the pause in effect; this runs in a child process."""
    pause: OperatorPause | None = current_app.pause_service(reason)
    return pause
