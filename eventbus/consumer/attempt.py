"""An attempt to handle an event, reported by Celery signals and a trace span."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

from celery import Task
from celery.app.task import Context
from opentelemetry.trace import SpanKind, get_current_span

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.receive import Item, Outcome
from eventbus.consumer.task_run import Run, request_of
from eventbus.events.catalogue import current
from eventbus.events.envelope import Event
from eventbus.telemetry import tracing
from eventbus.telemetry.harmless import harmless
from eventbus.topology.service import Service

#: Age of an event, in seconds, from which an attempt to handle it is always sampled, together with
#: the work that the attempt causes. Slow orders therefore have a trace.
LATE = 2.0

_NO_ATTRIBUTES: Mapping[str, str | int] = MappingProxyType({})


class Attempt:
    """An attempt, from `begin` to `end`, `fail` or `roll_back`. Reporting never raises.

    The parent of its span, as for every attempt, is the publish span in the message header or, if
    the header has none, the span in the envelope. The Celery instrumentation starts and ends the
    span together with the run; this class sets its name and attributes.
    """

    def __init__(
        self, item: Item, task: Task, *, service: Service, hostname: str, tiers: Sequence[float]
    ) -> None:
        self._item = item
        self._service = service
        self._permanent = task.dont_autoretry_for
        self._tiers = tiers
        self._request = _request(item, service, hostname)
        self._run = Run(task, self._request)
        #: The start of the attempt, in nanoseconds since the epoch.
        self._start_time = 0

    @harmless
    def begin(self) -> None:
        """Start the attempt. Events that the handler causes continue its trace."""
        self.inside(self._begin)

    def inside(self, work: Callable[[], None]) -> None:
        """Call `work` within the attempt, and propagate its exceptions."""
        self._run.inside(work)

    @harmless
    def end(self, size: int) -> None:
        """End the attempt with its item's outcome, committed in a batch of `size` items."""
        self.inside(partial(self._end, {"messaging.batch.message_count": size} if size > 1 else {}))

    @harmless
    def fail(self, error: Exception) -> None:
        """End the attempt with an error of the handler or the database.

        The outcome is `parked` if the error is permanent or this is the last attempt, otherwise
        `retry`. An outage (`paused`) does not count as an attempt.
        """
        self.inside(partial(self._fail, error))

    @harmless
    def roll_back(self) -> None:
        """End the attempt without counting it: its batch had no effect."""
        self.inside(self._roll_back)

    def _begin(self) -> None:
        self._start_time = time.time_ns()
        self._run.begin()
        if tracing.recording():
            span, item = get_current_span(), self._item
            if span.is_recording():
                span.update_name(_name(item))
                span.set_attributes(_attributes(self._service, item))
            item.traceparent = tracing.traceparent(span)

    def _end(self, attributes: dict[str, str | int]) -> None:
        if self._item.outcome is Outcome.WAITING:
            # Celery ignores a run without a result.
            _set_outcome(self._item.outcome.value, attributes)
            self._run.end()
            return
        if self._item.error:
            self._fail(self._item.error, attributes)
            return
        outcome = self._item.outcome.value
        _set_outcome(outcome, attributes)
        self._run.succeed(outcome)
        self._run.end()

    def _fail(self, error: Exception, attributes: Mapping[str, str | int] = _NO_ATTRIBUTES) -> None:
        cause = Cause.of(error, self._permanent)
        attempts = self._item.delivery.attempts
        if cause.verdict is Verdict.PAUSE:
            self._record_failure({**attributes, "outcome": "paused"}, cause)
        elif cause.is_final(attempts, len(self._tiers)):
            self._record_failure({**attributes, "outcome": "parked"}, cause)
            self._run.fail(error)
        else:
            self._record_failure({**attributes, "outcome": "retry"}, cause)
            self._run.retry(error, self._tiers[attempts - 1])
        self._run.end()

    def _record_failure(self, attributes: Mapping[str, str | int], cause: Cause) -> None:
        if not tracing.recording():
            return
        span = get_current_span()
        if span.is_recording():
            span.set_attributes(attributes)
            tracing.fail(span, str(cause))
            return
        # The trace is not sampled, so the run has no span yet. Failures are always recorded.
        span = tracing.begin(
            _name(self._item),
            SpanKind.CONSUMER,
            self._request.traceparent,
            {**_attributes(self._service, self._item), **attributes},
            start=self._start_time,
        )
        tracing.fail(span, str(cause))
        span.end()

    def _roll_back(self) -> None:
        _set_outcome(tracing.ROLLED_BACK)
        self._run.end()


def _set_outcome(outcome: str, attributes: Mapping[str, str | int] = _NO_ATTRIBUTES) -> None:
    if (span := get_current_span()).is_recording():
        span.set_attributes({**attributes, "outcome": outcome})


def _name(item: Item) -> str:
    return f"process {item.delivery.task}"


def _request(item: Item, service: Service, hostname: str) -> Context:
    delivery, event = item.delivery, item.event
    parent = delivery.traceparent
    if event and not tracing.trace_id(parent):
        parent = event.traceparent
    if tracing.trace_id(parent) and (delivery.attempts > 1 or (event and _is_late(event))):
        parent = tracing.flagged(parent, sampled=True)
    subject = {current().subject: str(event.subject)} if event else {}
    return request_of(
        delivery,
        traceparent=parent,
        hostname=hostname,
        # The span describes a message that was published to the queue directly, because the child
        # process does not receive the exchange and the routing key.
        delivery_info={"exchange": "", "routing_key": service.queue},
        # Only the id is included, as in task events: other data of an order does not leave the
        # process.
        kwargs=subject | {"event": delivery.event_id},
    )


def _is_late(event: Event) -> bool:
    return not event.replayed and (datetime.now(UTC) - event.time).total_seconds() > LATE


def _attributes(service: Service, item: Item) -> dict[str, str | int]:
    delivery, event = item.delivery, item.event
    attributes: dict[str, str | int] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": service.queue,
        "messaging.message.id": delivery.event_id,
        "event.id": delivery.event_id,
        "event.type": delivery.task,
        "attempt": delivery.attempts,
    }
    # A message without an event has no subject.
    return attributes | ({current().id_attribute: str(event.subject)} if event else {})
