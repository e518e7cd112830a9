"""Metrics and task events of a worker's messages, which never delay a commit or its ack.

Each method is called after the event that it reports, and never raises.
"""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.receive import Outcome, Result
from eventbus.events import codec
from eventbus.events.catalogue import current
from eventbus.telemetry import metrics
from eventbus.telemetry.harmless import harmless
from eventbus.worker import lost_run

if TYPE_CHECKING:
    from eventbus.worker.inbound import Inbound


class Observation:
    """Metrics of every message, and task events within the rate limit of `events`."""

    def __init__(self, events: Any = None) -> None:
        """Set the consumer's event dispatcher; None if task events are off."""
        self._events = events

    @harmless
    def received(self, inbound: "Inbound") -> None:
        """Report a message that has arrived."""
        if self._events is None:
            return
        # Monitoring tools can find an order's tasks by its id; other data of the order is not sent.
        self._send(
            inbound,
            "task-received",
            name=inbound.task.name,
            args="()",
            kwargs=lambda: repr(_task_kwargs(inbound)),
            retries=inbound.delivery.attempts - 1,
        )

    @harmless
    def started(self, batch: Iterable["Inbound"]) -> None:
        """Report messages whose handling has started in a child."""
        for inbound in batch:
            self._send(inbound, "task-started")

    @harmless
    def done(self, pairs: list[tuple["Inbound", Result]]) -> None:
        """Count and report the result of each message of a finished batch."""
        metrics.batch_sizes().observe(len(pairs))
        for inbound, result in pairs:
            seconds = time.monotonic() - inbound.started
            metrics.observe_handler(inbound.task.name, result.outcome, seconds, result.lateness)
            if result.outcome is Outcome.FAILED:
                self._send(inbound, "task-failed", exception=repr(result.error))
            else:
                # The runtime must be set: the exporter for Celery stops at a `task-succeeded` event
                # without it.
                outcome = repr(result.outcome.value)
                self._send(inbound, "task-succeeded", result=outcome, runtime=seconds)

    @harmless
    def failed(self, inbound: "Inbound", cause: Cause) -> None:
        """Count and report a failed attempt, with Celery's signals if its process died."""
        seconds = time.monotonic() - inbound.started
        metrics.observe_handler(inbound.task.name, Outcome.FAILED, seconds)
        if cause.is_crash:
            lost_run.report(inbound, cause)
        kind = "task-failed" if cause.verdict is Verdict.PARK else "task-retried"
        self._send(inbound, kind, exception=f"{cause.exception}()")

    def _send(self, inbound: "Inbound", event: str, **fields: Any) -> None:
        if self._events and self._events.enabled:
            self._events.send(event, uuid=inbound.event_id, **fields)


def _task_kwargs(inbound: "Inbound") -> dict[str, str | None]:
    return {current().subject: codec.subject(inbound.delivery.body), "event": inbound.event_id}
