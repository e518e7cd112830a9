"""One attempt at an event, as a span: whose child it is, and what it tells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.trace import Span, SpanKind

from common import outages, tracing
from common.consumer import Item
from common.errors import Permanent
from common.kombu_topology import Service


@contextmanager
def attempt(service: Service, item: Item, *, last: int) -> Iterator[Span]:
    """Make the span of an attempt the current one for the block.

    It is a child of the publishing that the header names, as every other attempt is, or else of
    what the envelope names. An error is an outcome, too: `parked` when it is permanent or when this
    is attempt `last`, else `retry`; `paused` for an outage, which is no attempt.
    """
    name, parent, about = _described(service, item)
    with tracing.span(name, SpanKind.CONSUMER, parent, about) as span:
        try:
            yield span
        except Exception as error:
            span.set_attribute("outcome", _outcome(error, item.delivery.attempts >= last))
            raise
        span.set_attribute("outcome", item.outcome.value)


@contextmanager
def attempts(service: Service, items: Sequence[Item]) -> Iterator[None]:
    """Give each delivery of a batch a span of its own, from the batch's begin to its commit.

    A batch that fails has done nothing, so that nothing of it is told: its events are tried alone.
    """
    if not tracing.recording():
        yield
        return
    spans = []
    for item in items:
        name, parent, about = _described(service, item)
        span = tracing.begin(name, SpanKind.CONSUMER, parent, about)
        item.traceparent = tracing.traceparent(span)
        spans.append(span)
    yield
    for item, span in zip(items, spans, strict=True):
        span.set_attribute("messaging.batch.message_count", len(items))
        span.set_attribute("outcome", "parked" if item.error else item.outcome.value)
        if item.error:
            tracing.fail(span, str(item.error))
        span.end()


def _outcome(error: Exception, is_last: bool) -> str:
    if outages.reason(error):
        return "paused"
    return "parked" if is_last or isinstance(error, Permanent) else "retry"


def _described(service: Service, item: Item) -> tuple[str, object, dict[str, str | int]]:
    delivery, event = item.delivery, item.event
    header = delivery.traceparent
    parent = header if event is None or tracing.trace_id(header) else event.traceparent
    about: dict[str, str | int] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": service.queue,
        "messaging.message.id": delivery.event_id,
        "event.id": delivery.event_id,
        "event.type": delivery.task,
        tracing.ORDER_ID: str(event.subject) if event else "",
        "attempt": delivery.attempts,
    }
    # A message without an event lacks its order.
    return f"process {delivery.task}", parent, {k: v for k, v in about.items() if v != ""}
