"""One attempt at an event, as a span: whose child it is, and what it tells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Span, SpanKind

from common import tracing
from common.consumer import Delivery, Item
from common.errors import Permanent
from common.kombu_topology import Service


@contextmanager
def attempt(service: Service, delivery: Delivery, *, last: int) -> Iterator[Span]:
    """Make the span of an attempt the current one for the block.

    It is a child of the publishing that the header names, as every other attempt is, or else of
    what the envelope names. An error is an outcome, too: `parked` when it is permanent or when this
    is attempt `last`, else `retry`.
    """
    name, parent, about = _described(service, delivery)
    with tracing.span(name, SpanKind.CONSUMER, parent, about) as span:
        try:
            yield span
        except Exception as error:
            parked = isinstance(error, Permanent) or delivery.attempts >= last
            span.set_attribute("outcome", "parked" if parked else "retry")
            raise


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
        name, parent, about = _described(service, item.delivery)
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


def _described(service: Service, delivery: Delivery) -> tuple[str, object, dict[str, str | int]]:
    fields = delivery.envelope if isinstance(delivery.envelope, dict) else {}
    header = delivery.traceparent
    parent = header if tracing.trace_id(header) else fields.get("traceparent")
    about = _attributes(service, delivery.task, fields) | {"attempt": delivery.attempts}
    return f"process {delivery.task}", parent, about


def _attributes(service: Service, task: str, envelope: dict[str, Any]) -> dict[str, str | int]:
    event_id, order_id = (str(envelope.get(name, ""))[:36] for name in ("id", "subject"))
    about: dict[str, str | int] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": service.queue,
        "messaging.message.id": event_id,
        "event.id": event_id,
        "event.type": task,
        tracing.ORDER_ID: order_id,
    }
    # What a stranger sent may lack either.
    return {name: value for name, value in about.items() if value}
