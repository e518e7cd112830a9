"""Micro-batches: what arrived while a child process worked is its next piece of work, as a whole.

Nothing waits for a batch to fill. A batch that fails, or takes its child with it, has done nothing:
each of its messages is then handled alone, so that only the one at fault is retried or parked.
It lives in the worker's main process, which alone talks to the broker.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Task, current_app

from common import metrics
from common.consumer import Delivery, Outcome
from common.errors import OrderSystemError
from common.settlement import Receipt

log = logging.getLogger(__name__)

#: Messages in one transaction. Measured: beyond it nothing gets faster, and locks are held longer.
BATCH_LIMIT = 100

#: Seconds for which a batch that runs keeps what arrives meanwhile to itself, although another
#: child is idle: one transaction of ten events costs a fraction of five of two. A handler that
#: takes longer holds up nobody else. Measured at 50 orders a second: 109 ms to a decision, not 162.
PATIENCE = 0.05

_UUID = re.compile("[0-9a-f-]{36}")

#: For each delivery of a batch how it ended, and the error of one that is none of ours.
Results = Sequence[tuple[Outcome, OrderSystemError | None]]


@dataclass(slots=True, eq=False)
class Reception:
    """A message in the worker, from its arrival until it is settled."""

    task: Task
    receipt: Receipt
    delivery: Delivery
    started: float = field(default=0.0)

    @property
    def event_id(self) -> str:
        """The id of its event, by its header."""
        return str(self.receipt.headers["id"])


class MicroBatches:
    """Hands the messages of one consumer connection to the pool, and settles what comes back."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._pool = consumer.pool
        self._conf = consumer.app.conf
        self._children: int = consumer.pool.num_processes
        #: At most one batch for each child.
        self._running: list[list[Reception]] = []
        self._waiting: deque[Reception] = deque()
        #: Of failed batches.
        self._alone: deque[Reception] = deque()
        self._woken = False
        self._postponed = False

    def add(self, reception: Reception) -> None:
        """Take a message; it is sent to a child at the event loop's next turn, if one is idle."""
        self._tell_received(reception)
        self._waiting.append(reception)
        if not self._woken and self._has_idle():
            self._woken = True
            self._consumer.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._woken = False
        while self._has_idle() and (self._alone or self._waiting):
            if self._alone:
                batch = [self._alone.popleft()]
            elif self._is_for_who_works():
                self._look_again()
                return
            else:
                size = min(len(self._waiting), BATCH_LIMIT)
                batch = [self._waiting.popleft() for _ in range(size)]
            self._send(batch)

    def _look_again(self) -> None:
        if not self._postponed:
            self._postponed = True
            self._consumer.timer.call_after(PATIENCE, self._resume)

    def _resume(self) -> None:
        self._postponed = False
        self._dispatch()

    def _has_idle(self) -> bool:
        return len(self._running) < self._children

    def _is_for_who_works(self) -> bool:
        # More than a batch is work for two.
        if len(self._waiting) > BATCH_LIMIT:
            return False
        recently = time.time() - PATIENCE
        return any(batch[0].started > recently for batch in self._running)

    def _send(self, batch: list[Reception]) -> None:
        self._running.append(batch)
        for reception in batch:
            reception.started = time.time()
            self._tell(reception, "task-started")
        # A pool that is being stopped takes nothing: the messages go back to their queue.
        self._pool.apply_async(
            handle,
            args=([reception.delivery for reception in batch],),
            callback=partial(self._done, batch),
            error_callback=partial(self._failed, batch),
            soft_timeout=self._conf.task_soft_time_limit,
            timeout=self._conf.task_time_limit,
        )

    def _done(self, batch: list[Reception], results: Results) -> None:
        self._running.remove(batch)
        done = []
        for reception, (outcome, error) in zip(batch, results, strict=True):
            self._observe(reception, outcome)
            if error:
                self._settle(reception, error)
            else:
                done.append(reception.receipt.message)
                # Celery's exporter stops at a success that does not say how long it took.
                runtime = time.time() - reception.started
                told = {"result": repr(outcome.value), "runtime": runtime}
                self._tell(reception, "task-succeeded", **told)
        metrics.batch_sizes().observe(len(batch))
        self._consumer.acknowledgements.acknowledge(done)
        self._dispatch()

    def _failed(self, batch: list[Reception], einfo: Any, **_: Any) -> None:
        self._running.remove(batch)
        error = einfo.exception
        error = error.exc if isinstance(error, ExceptionWithTraceback) else error
        if len(batch) > 1:
            about = {"reason": f"{type(error).__name__}: {error}", "events": len(batch)}
            log.info("a batch failed: each of its events is handled alone", extra=about)
            self._alone.extend(batch)
        else:
            self._observe(batch[0], Outcome.FAILED)
            self._settle(batch[0], error)
        self._dispatch()

    def _settle(self, reception: Reception, error: BaseException) -> None:
        if isinstance(error, WorkerLostError | TimeLimitExceeded):
            # The broker counts it, and parks what kills too many.
            log.error("an event took its process with it", extra=_log_fields(reception, error))
            self._consumer.acknowledgements.reject(reception.receipt.message, requeue=True)
            self._tell(reception, "task-failed", exception=repr(error))
        elif isinstance(error, reception.task.dont_autoretry_for):
            self._consumer.park(reception.receipt, error)
            self._tell(reception, "task-failed", exception=repr(error))
        else:
            self._consumer.retry(reception.receipt, error)
            self._tell(reception, "task-retried", exception=repr(error))

    def _observe(self, reception: Reception, outcome: Outcome) -> None:
        seconds = time.time() - reception.started
        envelope = reception.delivery.envelope
        metrics.observe_handler(reception.task.name, outcome, seconds, envelope)

    def _tell(self, reception: Reception, event: str, **fields: Any) -> None:
        eventer = self._consumer.event_dispatcher
        if eventer and eventer.enabled:
            eventer.send(event, uuid=reception.event_id, **fields)

    def _tell_received(self, reception: Reception) -> None:
        # Onlookers find an order's tasks by its id, and learn nothing else of it.
        about = {"order": _order_id(reception), "event": reception.event_id}
        retries = reception.delivery.attempts - 1
        told = {"name": reception.task.name, "args": "()", "kwargs": repr(about)}
        self._tell(reception, "task-received", retries=retries, **told)


def strategy(task: Task, _app: Any, consumer: Any) -> Any:
    """Return what Celery calls with each message of a task: it joins the next batch."""

    def receive(message: Any, *_: Any, **__: Any) -> None:
        headers, payload = message.headers, message.payload
        delivery = Delivery(
            task.name, payload[1].get("event"), headers["retries"] + 1, headers.get("traceparent")
        )
        consumer.batches.add(Reception(task, message.receipt, delivery))

    return receive


def handle(deliveries: list[Delivery]) -> Results:
    """Handle a batch, or one message, in a child process; raises what makes it fail."""
    results: Results = current_app.handle_deliveries(deliveries)
    return results


def _order_id(reception: Reception) -> str | None:
    envelope = reception.delivery.envelope
    subject = envelope.get("subject") if isinstance(envelope, dict) else None
    return subject if isinstance(subject, str) and _UUID.fullmatch(subject) else None


def _log_fields(reception: Reception, error: BaseException) -> dict[str, Any]:
    return {
        "event_id": reception.event_id,
        "event_type": reception.task.name,
        "reason": str(error),
    }
