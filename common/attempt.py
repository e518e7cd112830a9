"""One attempt at an event, as a span: whose child it is, and what it tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import Span, SpanKind

from common import tracing
from common.errors import Permanent
from common.kombu_topology import Service


@contextmanager
def attempt(
    service: Service, task: str, envelope: Any, *, header: object, number: int, last: int
) -> Iterator[Span]:
    """Make the span of attempt `number` the current one for the block.

    It is a child of the publishing that `header` names, as every other attempt is, or else of what
    the envelope names. An error is an outcome, too: `parked` when it is permanent or when this is
    the `last` attempt, else `retry`.
    """
    fields = envelope if isinstance(envelope, dict) else {}
    parent = header if tracing.trace_id(header) else fields.get("traceparent")
    about = _attributes(service, task, fields) | {"attempt": number}
    with tracing.span(f"process {task}", SpanKind.CONSUMER, parent, about) as span:
        try:
            yield span
        except Exception as error:
            parked = isinstance(error, Permanent) or number >= last
            span.set_attribute("outcome", "parked" if parked else "retry")
            raise


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
