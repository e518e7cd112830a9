"""Micro-batches: messages that arrive while a child process is busy form its next batch.

A message waits for further messages only if the service sets a batch interval, and then only for a
fraction of a second. A batch that fails or crashes its child has had no effect: each of its
messages is then handled alone, so only the message at fault is retried or parked. If handlers fail
too often, the worker pauses its service. This code runs in the worker's main process, the only one
with a connection to the broker.
"""

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import current_app

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.receive import Delivery, Outcome, Result
from eventbus.worker.decision import Decision
from eventbus.worker.inbound import Batch, Inbound
from eventbus.worker.losses import Losses
from eventbus.worker.observation import Observation
from eventbus.worker.parking_burst import ParkingBurst
from eventbus.worker.pause import Pause
from eventbus.worker.settlement import Settlement
from eventbus.worker.waiting_messages import WaitingMessages

if TYPE_CHECKING:
    from eventbus.worker.consumer_connection import ConsumerConnection

log = logging.getLogger(__name__)


class MicroBatches:
    """The batches of one connection, which are sent to the pool and settled by its results."""

    def __init__(self, connection: "ConsumerConnection", consumer: Any) -> None:
        self._connection = connection
        self._consumer = consumer
        self._pool = consumer.pool
        self._conf = consumer.app.conf
        self._pause: Pause = consumer.pause
        self._losses: Losses = consumer.app.losses
        self._decision: Decision = consumer.app.decision
        self._burst: ParkingBurst = consumer.app.parking_burst
        self._settlement: Settlement = consumer.settlement
        self._observation: Observation = consumer.observation
        self._children: int = consumer.pool.num_processes
        #: The running batches, at most one per child.
        self._running: list[Batch] = []
        self._waiting = WaitingMessages(consumer.app.batch_interval)
        #: The message that was last sent alone during an outage, or after a pause of the service.
        self._canary: Batch | None = None
        #: Whether the service is paused, so that no message is sent or kept.
        self._is_held = False
        #: The number of events that children are recording before they are parked. Until it is 0,
        #: no batch is sent.
        self._recording = 0
        self._is_dispatch_scheduled = False
        self._is_timer_set = False

    def add(self, inbound: Inbound) -> None:
        """Queue a message, which the event loop sends to an idle child in its next iteration."""
        self._observation.received(inbound)
        self._waiting.add(inbound)
        if self._is_dispatch_scheduled or not self._has_idle_child():
            return
        if seconds := self._waiting.gathering():
            self._dispatch_after(seconds)
        else:
            self._is_dispatch_scheduled = True
            self._consumer.call_soon(self._dispatch)

    def close(self) -> None:
        """Start no further batches. A running batch is completed in its child, but not settled."""
        self._waiting.clear()

    def hold(self) -> None:
        """Return waiting messages to their queue, and later the messages of batches that fail."""
        self._is_held = True
        # A message that was sent before the pause must not count as the canary after it.
        self._canary = None
        self._give_back()

    def resume(self) -> None:
        """Send messages again, after `hold`."""
        self._is_held = False

    def _give_back(self) -> None:
        for inbound in self._waiting.clear():
            inbound.receipt.reject(requeue=True)
        # The pause ends, because the worker has no message left with which it could probe.
        self._pause.abandon()

    def _dispatch(self) -> None:
        self._is_dispatch_scheduled = False
        if self._is_held:
            self._give_back()
            return
        if self._recording:
            return
        while self._has_idle_child() and self._waiting:
            if self._pause.reason or self._decision.needs_canary:
                self._send_canary()
                return
            if seconds := self._waiting.delay(self._running):
                self._dispatch_after(seconds)
                return
            self._send(self._waiting.take())

    def _send_canary(self) -> None:
        if self._pause.holds_too_long():
            self._consumer.call_soon(_reconnect)
        if self._running:
            return
        if wait := self._pause.wait:
            self._dispatch_after(wait)
        else:
            self._canary = self._waiting.take_one()
            self._send(self._canary)

    def _dispatch_after(self, seconds: float) -> None:
        if not self._is_timer_set:
            self._is_timer_set = True
            self._consumer.timer.call_after(seconds, self._resume)

    def _resume(self) -> None:
        self._is_timer_set = False
        # The call goes through the event loop, because the timer would swallow an exception.
        self._consumer.call_soon(self._dispatch)

    def _has_idle_child(self) -> bool:
        return len(self._running) < self._children

    def _send(self, batch: Batch) -> None:
        self._running.append(batch)
        now = time.monotonic()
        self._waiting.started(now)
        for inbound in batch:
            inbound.started = now
        # A stopping pool ignores the call, and the messages return to their queue.
        self._pool.apply_async(
            handle,
            args=([inbound.delivery for inbound in batch],),
            callback=partial(self._done, batch),
            error_callback=partial(self._failed, batch),
            soft_timeout=self._conf.task_soft_time_limit,
            timeout=self._conf.task_time_limit,
        )
        self._observation.started(batch)

    def _done(self, batch: Batch, results: list[Result]) -> None:
        self._running.remove(batch)
        if not self._connection.is_open:
            return
        pairs = list(zip(batch, results, strict=True))
        if done := [i.event_id for i, result in pairs if result.outcome is not Outcome.FAILED]:
            self._pause.end()
            self._losses.handled(done)
        handled = [inbound.receipt.message for inbound, result in pairs if not result.error]
        self._connection.acknowledge(handled)
        self._burst.handled(len(handled))
        for inbound, result in pairs:
            if result.error:
                self._connection.park(inbound.receipt, Cause.of(result.error))
        # A duplicate does not show whether the handler works, so the next message is another
        # canary.
        if self._is_canary(batch) and results[0].outcome is Outcome.HANDLED:
            self._decision.canary_handled()
        self._dispatch()
        self._observation.done(pairs)

    def _failed(self, batch: Batch, error: BaseException) -> None:
        self._running.remove(batch)
        if not self._connection.is_open:
            return
        cause = Cause.of(error)
        if cause.verdict is Verdict.PAUSE:
            self._interrupt(batch, cause)
        elif len(batch) > 1:
            fields = {"reason": str(cause), "events": len(batch)}
            log.info("batch failed; events handled individually", extra=fields)
            self._waiting.separate(batch)
        else:
            self._settle(batch[0], cause)
            if reason := self._reason_to_pause(batch, cause):
                self._decision.pause_service(reason)
        self._dispatch()

    def _interrupt(self, batch: Batch, cause: Cause) -> None:
        if len(batch) > 1:
            self._pause.begin(cause.text)
            self._waiting.separate(batch)
        elif self._losses.interrupted(batch[0].event_id):
            self._pause.end()
            self._charge(batch[0], cause._replace(text=f"{cause.text}, only for this message"))
        else:
            self._pause.begin(cause.text)
            self._waiting.set_aside(batch[0])

    def _reason_to_pause(self, batch: Batch, cause: Cause) -> str | None:
        if not cause.is_by_handler:
            return None
        if self._is_canary(batch):
            return f"the first event after the pause failed: {cause.origin}"
        if self._settlement.is_final(batch[0].receipt, cause):
            return self._burst.parked(cause.origin)
        return None

    def _is_canary(self, batch: Batch) -> bool:
        return batch is self._canary and self._decision.needs_canary

    def _settle(self, inbound: Inbound, cause: Cause) -> None:
        if cause.is_crash:
            if self._connection.is_stopping:
                return
            log.error("handler crashed its worker process", extra=_log_fields(inbound, cause))
        if cause.verdict is Verdict.SLOW and self._pause.is_slow(inbound.event_id):
            self._pause.begin(f"handlers are too slow: {cause.exception}")
            # The event returns to the end of the queue, because it may itself be slow and must not
            # be the next canary.
            self._waiting.put_last(inbound)
            return
        if cause.verdict is Verdict.RETRY:
            self._pause.end()
        self._charge(inbound, cause)

    def _charge(self, inbound: Inbound, cause: Cause) -> None:
        if self._settlement.needs_record(inbound.receipt, cause):
            self._record(inbound, cause)
        else:
            self._retry(inbound, cause)

    def _retry(self, inbound: Inbound, cause: Cause) -> None:
        self._connection.retry(inbound.receipt, cause)
        self._observation.failed(inbound, cause)

    def _record(self, inbound: Inbound, cause: Cause) -> None:
        self._recording += 1
        self._pool.apply_async(
            record_parked,
            args=(inbound.delivery,),
            callback=partial(self._recorded, inbound, cause),
            error_callback=partial(self._not_recorded, inbound),
            soft_timeout=self._conf.task_soft_time_limit,
            timeout=self._conf.task_time_limit,
        )

    def _recorded(self, inbound: Inbound, cause: Cause, _result: None) -> None:
        self._recording -= 1
        if self._connection.is_open:
            self._retry(inbound, cause)
            self._dispatch()

    def _not_recorded(self, inbound: Inbound, _error: BaseException) -> None:
        self._recording -= 1
        if self._connection.is_open:
            self._pause.begin("a parked event cannot be recorded")
            self._waiting.put_first([inbound])
            self._dispatch()


def handle(deliveries: list[Delivery]) -> list[Result]:
    """Handle a batch, or one message, in a child process; raise its error."""
    results: list[Result] = current_app.handle_deliveries(deliveries)
    return results


def record_parked(delivery: Delivery) -> None:
    """Record that an event is about to be parked; this runs in a child process."""
    current_app.record_parked(delivery)


def _reconnect() -> None:
    raise ConnectionResetError("held messages returned to their queue")


def _log_fields(inbound: Inbound, cause: Cause) -> dict[str, Any]:
    return {
        "event_id": inbound.event_id,
        "event_type": inbound.task.name,
        "reason": str(cause),
    }
