"""What a worker counts and shows of its messages: it never stands between a commit and its ack.

Each method is called after what it tells of has happened, and raises nothing.
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
    from eventbus.worker.micro_batches import Inbound


class Observation:
    """Metrics of every message, and task events of those that `events` has room for."""

    def __init__(self, events: Any = None) -> None:
        """`events` is the consumer's event dispatcher; None where task events are off."""
        self._events = events

    @harmless
    def received(self, inbound: "Inbound") -> None:
        """Show a message that has arrived."""
        if self._events is None:
            return
        # Onlookers find an order's tasks by its id, and learn nothing else of it.
        self._tell(
            inbound,
            "task-received",
            name=inbound.task.name,
            args="()",
            kwargs=lambda: repr(_about(inbound)),
            retries=inbound.delivery.attempts - 1,
        )

    @harmless
    def started(self, batch: Iterable["Inbound"]) -> None:
        """Show messages that a child has begun with."""
        for inbound in batch:
            self._tell(inbound, "task-started")

    @harmless
    def done(self, pairs: list[tuple["Inbound", Result]]) -> None:
        """Count and show a batch that has ended, each of its messages by its result."""
        metrics.batch_sizes().observe(len(pairs))
        for inbound, result in pairs:
            seconds = time.monotonic() - inbound.started
            metrics.observe_handler(inbound.task.name, result.outcome, seconds, result.lateness)
            if result.error:
                self._tell(inbound, "task-failed", exception=repr(result.error))
            else:
                # Celery's exporter stops at a success that does not say how long it took.
                outcome = repr(result.outcome.value)
                self._tell(inbound, "task-succeeded", result=outcome, runtime=seconds)

    @harmless
    def failed(self, inbound: "Inbound", cause: Cause) -> None:
        """Count and show an attempt that has failed; for one whose process ended, signals tell."""
        seconds = time.monotonic() - inbound.started
        metrics.observe_handler(inbound.task.name, Outcome.FAILED, seconds)
        if cause.is_crash:
            lost_run.tell(inbound, cause)
        kind = "task-failed" if cause.verdict is Verdict.PARK else "task-retried"
        self._tell(inbound, kind, exception=f"{cause.exception}()")

    def _tell(self, inbound: "Inbound", event: str, **fields: Any) -> None:
        if self._events and self._events.enabled:
            self._events.send(event, uuid=inbound.event_id, **fields)


def _about(inbound: "Inbound") -> dict[str, str | None]:
    return {current().subject: codec.subject(inbound.delivery.body), "event": inbound.event_id}
