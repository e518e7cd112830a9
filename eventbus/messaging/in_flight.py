"""Events in flight to the broker, and their outcomes."""

from dataclasses import dataclass, field
from itertools import takewhile
from math import inf
from uuid import UUID

from opentelemetry.trace import Span, SpanKind

from eventbus.events import codec
from eventbus.events.catalogue import current
from eventbus.telemetry import tracing


@dataclass(frozen=True)
class Outgoing:
    """An event to publish to the exchange; `event` is the envelope as JSON.

    An event in several versions is several objects with one id.
    """

    event_id: UUID
    type: str
    event: str
    subject: UUID


@dataclass
class Report:
    """The outcomes of a batch, by event id; an event without an outcome must be sent again.

    An event in several versions is confirmed when all its versions are confirmed and at least one
    had a queue: consumers of the other versions also consume that version.
    """

    confirmed: set[UUID] = field(default_factory=set)
    #: Reasons by event id: no queue is bound to the event's type.
    returned: dict[UUID, str] = field(default_factory=dict)
    #: The ids of events that the broker refused: a queue is full, or its replicas did not agree in
    #: time.
    refused: set[UUID] = field(default_factory=set)
    #: Reasons by event id: the event cannot be encoded as a message.
    invalid: dict[UUID, str] = field(default_factory=dict)
    #: The reason why the batch ended early, or None.
    error: str | None = None
    #: Whether the batch ended because the broker objects to an event, for example because a
    #: permission is missing.
    objected: bool = False
    #: Types of confirmed events to which no queue is bound. Another version of each event had a
    #: queue.
    unconsumed: frozenset[str] = frozenset()


#: The id of an event, and the event type of one message, which identifies the version.
_Message = tuple[UUID, str]


class InFlight:
    """A batch in flight to the broker: the outcomes so far, and the unconfirmed messages."""

    def __init__(self, exchange: str) -> None:
        self.report = Report()
        self.spans = Spans(exchange)
        #: Unconfirmed messages by delivery tag, in ascending order.
        self.unconfirmed: dict[int, _Message] = {}
        #: Messages that the broker returned because no queue was bound to their type.
        self.returned: set[_Message] = set()
        #: Time by which all confirms must have arrived, by `time.monotonic()`.
        self.deadline = inf

    def ack(self, tag: int, multiple: bool) -> None:
        """Record a confirm. The broker sends a return before the ack of the same message."""
        routed = set(self._take(tag, multiple)) - self.returned
        self.report.confirmed |= {event_id for event_id, _ in routed}

    def nack(self, tag: int, multiple: bool) -> None:
        """Record that the broker refused messages."""
        self.report.refused |= {event_id for event_id, _ in self._take(tag, multiple)}

    def give_up(self) -> None:
        """Count unconfirmed messages as refused, because the broker works but a queue does not."""
        self.report.refused |= {event_id for event_id, _ in self.unconfirmed.values()}
        self.unconfirmed.clear()

    def conclude(self) -> Report:
        """Return the outcomes of the events, derived from the outcomes of their messages."""
        report = self.report
        missing = {event_id for event_id, _ in self.unconfirmed.values()}
        report.confirmed -= missing | report.refused | report.invalid.keys()
        for event_id in missing | report.refused | report.confirmed | report.invalid.keys():
            report.returned.pop(event_id, None)
        report.refused -= report.invalid.keys()
        report.unconsumed = frozenset(
            event_type for event_id, event_type in self.returned if event_id in report.confirmed
        )
        self.spans.end(report)
        return report

    def _take(self, tag: int, multiple: bool) -> list[_Message]:
        tags = list(takewhile(lambda t: t <= tag, self.unconfirmed)) if multiple else [tag]
        return [self.unconfirmed.pop(t) for t in tags if t in self.unconfirmed]


class Spans:
    """The spans of a batch: each lasts from the publish to its confirm or failure.

    The envelope is published as the outbox stores it; the header `traceparent` identifies the span.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._open: list[tuple[Outgoing, Span]] = []

    def begin(self, outgoing: Outgoing) -> str | None:
        """Start a span and return the header; return None if no span is recorded."""
        if not tracing.recording():
            return None
        attributes = {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "send",
            "messaging.destination.name": self._exchange,
            "messaging.rabbitmq.destination.routing_key": outgoing.type,
            "messaging.message.id": str(outgoing.event_id),
            "event.id": str(outgoing.event_id),
            "event.type": outgoing.type,
            current().id_attribute: str(outgoing.subject),
        }
        parent = codec.traceparent(outgoing.event)
        span = tracing.begin(f"publish {outgoing.type}", SpanKind.PRODUCER, parent, attributes)
        self._open.append((outgoing, span))
        return tracing.traceparent(span)

    def end(self, report: Report) -> None:
        """End all spans, and mark the spans of unconfirmed events as failed."""
        for outgoing, span in self._open:
            event_id = outgoing.event_id
            if event_id not in report.confirmed:
                refused = "refused" if event_id in report.refused else report.error
                reason = report.invalid.get(event_id) or report.returned.get(event_id)
                tracing.fail(span, reason or refused or "not confirmed")
            span.end()
