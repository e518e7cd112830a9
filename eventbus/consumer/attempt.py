"""One attempt at an event: what Celery's signals, and its span, tell of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

from celery import Task
from celery.app.task import Context
from opentelemetry.trace import SpanKind, get_current_span

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.receive import Item
from eventbus.consumer.task_run import Run, request_of
from eventbus.events.catalogue import current
from eventbus.events.envelope import Event
from eventbus.telemetry import tracing
from eventbus.telemetry.harmless import harmless
from eventbus.topology.service import Service

#: Seconds after an event's own time from which on an attempt at it is sampled, with all that
#: follows from it: a slow order is looked at.
LATE = 2.0

_NOTHING: Mapping[str, str | int] = MappingProxyType({})


class Attempt:
    """An attempt from `begin` to one of its ends; telling of it raises nothing.

    Its span is a child of the publishing that the header names, as every other attempt's is, or
    else of what the envelope names. The instrumentation of Celery makes the span at the beginning
    of the run, and ends it with the run. Here it gets its name, and what it tells.
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
        #: Nanoseconds since the epoch.
        self._began = 0

    @harmless
    def begin(self) -> None:
        """Begin it; what the event's handler causes goes on from its span."""
        self.inside(self._begin)

    def inside(self, work: Callable[[], None]) -> None:
        """Call `work` as a part of it; raises what it raises."""
        self._run.inside(work)

    @harmless
    def end(self, size: int) -> None:
        """End it with the outcome of its item, which was committed in a batch of so many."""
        self.inside(partial(self._end, {"messaging.batch.message_count": size} if size > 1 else {}))

    @harmless
    def fail(self, error: Exception) -> None:
        """End it with what the handler, or the database, has raised.

        It is `parked` when it will never work or this is the last attempt, else `retry`. An outage
        is no attempt.
        """
        self.inside(partial(self._fail, error))

    @harmless
    def roll_back(self) -> None:
        """End it as no attempt: its batch has done nothing."""
        self.inside(self._roll_back)

    def _begin(self) -> None:
        self._began = time.time_ns()
        self._run.begin()
        if tracing.recording():
            span, item = get_current_span(), self._item
            if span.is_recording():
                span.update_name(_name(item))
                span.set_attributes(_described(self._service, item))
            item.traceparent = tracing.traceparent(span)

    def _end(self, about: dict[str, str | int]) -> None:
        if self._item.error:
            self._fail(self._item.error, about)
            return
        outcome = self._item.outcome.value
        _tell(outcome, about)
        self._run.succeed(outcome)
        self._run.end()

    def _fail(self, error: Exception, about: Mapping[str, str | int] = _NOTHING) -> None:
        cause = Cause.of(error, self._permanent)
        tried = self._item.delivery.attempts
        if cause.verdict is Verdict.PAUSE:
            self._tell_failure({**about, "outcome": "paused"}, cause)
        elif cause.verdict is Verdict.PARK or tried > len(self._tiers):
            self._tell_failure({**about, "outcome": "parked"}, cause)
            self._run.fail(error)
        else:
            self._tell_failure({**about, "outcome": "retry"}, cause)
            self._run.retry(error, self._tiers[tried - 1])
        self._run.end()

    def _tell_failure(self, about: Mapping[str, str | int], cause: Cause) -> None:
        if not tracing.recording():
            return
        span = get_current_span()
        if span.is_recording():
            span.set_attributes(about)
            tracing.fail(span, str(cause))
            return
        # Of a trace that is not sampled: the run has no span.
        described = {**_described(self._service, self._item), **about}
        parent = self._request.traceparent
        made = tracing.begin(
            _name(self._item), SpanKind.CONSUMER, parent, described, start=self._began
        )
        tracing.fail(made, str(cause))
        made.end()

    def _roll_back(self) -> None:
        _tell(tracing.ROLLED_BACK)
        self._run.end()


def _tell(outcome: str, about: Mapping[str, str | int] = _NOTHING) -> None:
    if (span := get_current_span()).is_recording():
        span.set_attributes({**about, "outcome": outcome})


def _name(item: Item) -> str:
    return f"process {item.delivery.task}"


def _request(item: Item, service: Service, hostname: str) -> Context:
    delivery, event = item.delivery, item.event
    parent = delivery.traceparent
    if event and not tracing.trace_id(parent):
        parent = event.traceparent
    if tracing.trace_id(parent) and (delivery.attempts > 1 or (event and _is_late(event))):
        parent = tracing.flagged(parent, sampled=True)
    about = {current().subject: str(event.subject)} if event else {}
    return request_of(
        delivery,
        traceparent=parent,
        hostname=hostname,
        # As if sent to the queue itself: by which binding it came, the child does not know.
        delivery_info={"exchange": "", "routing_key": service.queue},
        # What onlookers are told, too: nothing else of an order leaves.
        kwargs=about | {"event": delivery.event_id},
    )


def _is_late(event: Event) -> bool:
    return not event.replayed and (datetime.now(UTC) - event.time).total_seconds() > LATE


def _described(service: Service, item: Item) -> dict[str, str | int]:
    delivery, event = item.delivery, item.event
    about: dict[str, str | int] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": service.queue,
        "messaging.message.id": delivery.event_id,
        "event.id": delivery.event_id,
        "event.type": delivery.task,
        "attempt": delivery.attempts,
    }
    # A message without an event has no subject.
    return about | ({current().id_attribute: str(event.subject)} if event else {})
