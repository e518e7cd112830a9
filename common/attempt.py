"""One attempt at an event: what Celery's signals, and its span, tell of it."""

from collections.abc import Callable, Sequence

from celery import Task
from celery.app.task import Context
from opentelemetry.trace import get_current_span

from common import tracing
from common.cause import Cause, Verdict
from common.consumer import Item
from common.kombu_topology import Service
from common.observation import harmless
from common.task_run import Run, request_of


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
        self._run = Run(task, _request(item, service, hostname))

    @harmless
    def begin(self) -> None:
        """Begin it; what the event's handler causes goes on from its span."""
        self._run.begin()
        if tracing.recording():
            self._run.inside(self._describe)

    def inside(self, work: Callable[[], None]) -> None:
        """Call `work` as a part of it; raises what it raises."""
        self._run.inside(work)

    @harmless
    def end(self, size: int) -> None:
        """End it with the outcome of its item, which was committed in a batch of so many."""
        if size > 1:
            self._tell({"messaging.batch.message_count": size})
        if self._item.error:
            self._end_failed(self._item.error)
        else:
            self._tell({"outcome": self._item.outcome.value})
            self._run.succeed(self._item.outcome.value)
            self._run.end()

    @harmless
    def fail(self, error: Exception) -> None:
        """End it with what the handler, or the database, has raised.

        It is `parked` when it will never work or this is the last attempt, else `retry`. An outage
        is no attempt.
        """
        self._end_failed(error)

    @harmless
    def roll_back(self) -> None:
        """End it as no attempt: its batch has done nothing."""
        self._tell({"outcome": tracing.ROLLED_BACK})
        self._run.end()

    def _end_failed(self, error: Exception) -> None:
        cause = Cause.of(error, self._permanent)
        tried = self._item.delivery.attempts
        if cause.verdict is Verdict.PAUSE:
            self._tell({"outcome": "paused"}, str(cause))
        elif cause.verdict is Verdict.PARK or tried > len(self._tiers):
            self._tell({"outcome": "parked"}, str(cause))
            self._run.fail(error)
        else:
            self._tell({"outcome": "retry"}, str(cause))
            self._run.retry(error, self._tiers[tried - 1])
        self._run.end()

    def _describe(self) -> None:
        span, item = get_current_span(), self._item
        span.update_name(f"process {item.delivery.task}")
        span.set_attributes(_described(self._service, item))
        item.traceparent = tracing.traceparent(span)

    def _tell(self, about: dict[str, str | int], reason: str | None = None) -> None:
        def tell() -> None:
            span = get_current_span()
            span.set_attributes(about)
            if reason:
                tracing.fail(span, reason)

        if tracing.recording():
            self._run.inside(tell)


def _request(item: Item, service: Service, hostname: str) -> Context:
    delivery, event = item.delivery, item.event
    headers = dict(delivery.headers or {})
    if event and not tracing.trace_id(delivery.traceparent):
        headers["traceparent"] = event.traceparent
    order = {"order": str(event.subject)} if event else {}
    return request_of(
        headers,
        hostname=hostname,
        correlation_id=delivery.event_id,
        # As if sent to the queue itself: by which binding it came, the child does not know.
        delivery_info={"exchange": "", "routing_key": service.queue},
        # What onlookers are told, too: nothing else of an order leaves.
        kwargs=order | {"event": delivery.event_id},
    )


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
    # A message without an event lacks its order.
    return about | ({tracing.ORDER_ID: str(event.subject)} if event else {})
