"""Events on their way to the broker, and what becomes of each."""

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
    """An event on its way to the exchange; `event` is the envelope as JSON.

    One in several versions is several of these, with one id.
    """

    event_id: UUID
    type: str
    event: str
    subject: UUID


@dataclass
class Report:
    """What became of a batch, by event id; what stands nowhere must be sent again.

    An event in several versions is confirmed when all of them are, and one had a queue: who hears
    the others hears this one, too.
    """

    confirmed: set[UUID] = field(default_factory=set)
    #: To why: no queue is bound to the event's type.
    returned: dict[UUID, str] = field(default_factory=dict)
    #: A queue is full, or its replicas did not agree in time.
    refused: set[UUID] = field(default_factory=set)
    #: To why: no message can be made of the event.
    invalid: dict[UUID, str] = field(default_factory=dict)
    #: Why the batch ended early, if it did.
    error: str | None = None
    #: Whether it ended because the broker objects to one of its events: a right is missing, say.
    objected: bool = False
    #: Types of confirmed events that no queue is bound to: another version of each had one.
    unheard: frozenset[str] = frozenset()


#: An event's id, and the version of this message.
_Message = tuple[UUID, str]


class InFlight:
    """A batch on its way to the broker: what has become of it so far, and what is missing."""

    def __init__(self, exchange: str) -> None:
        self.report = Report()
        self.spans = Spans(exchange)
        #: By delivery tag, in their order.
        self.unconfirmed: dict[int, _Message] = {}
        #: What had no queue.
        self.returned: set[_Message] = set()
        #: When the broker is late (`time.monotonic()`).
        self.deadline = inf

    def ack(self, tag: int, multiple: bool) -> None:
        """Take in a confirm. The broker sends a return before the ack of the same message."""
        routed = set(self._take(tag, multiple)) - self.returned
        self.report.confirmed |= {event_id for event_id, _ in routed}

    def nack(self, tag: int, multiple: bool) -> None:
        """Take in that the broker did not take messages."""
        self.report.refused |= {event_id for event_id, _ in self._take(tag, multiple)}

    def give_up(self) -> None:
        """Take what is unconfirmed for refused: the broker works, and a queue of it does not."""
        self.report.refused |= {event_id for event_id, _ in self.unconfirmed.values()}
        self.unconfirmed.clear()

    def conclude(self) -> Report:
        """Return what is known of the events from what is known of their messages."""
        report = self.report
        missing = {event_id for event_id, _ in self.unconfirmed.values()}
        report.confirmed -= missing | report.refused | report.invalid.keys()
        for event_id in missing | report.refused | report.confirmed | report.invalid.keys():
            report.returned.pop(event_id, None)
        report.refused -= report.invalid.keys()
        report.unheard = frozenset(
            event_type for event_id, event_type in self.returned if event_id in report.confirmed
        )
        self.spans.end(report)
        return report

    def _take(self, tag: int, multiple: bool) -> list[_Message]:
        tags = list(takewhile(lambda t: t <= tag, self.unconfirmed)) if multiple else [tag]
        return [self.unconfirmed.pop(t) for t in tags if t in self.unconfirmed]


class Spans:
    """The publishings of one batch, as spans: from the publish to its confirm, or to its failure.

    The envelope is what the outbox holds; the header `traceparent` names the publishing.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._open: list[tuple[Outgoing, Span]] = []

    def begin(self, outgoing: Outgoing) -> str | None:
        """Return the header; None when nothing is recorded."""
        if not tracing.recording():
            return None
        about = {
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
        span = tracing.begin(f"publish {outgoing.type}", SpanKind.PRODUCER, parent, about)
        self._open.append((outgoing, span))
        return tracing.traceparent(span)

    def end(self, report: Report) -> None:
        """End them all; who was not confirmed failed."""
        for outgoing, span in self._open:
            event_id = outgoing.event_id
            if event_id not in report.confirmed:
                refused = "refused" if event_id in report.refused else report.error
                reason = report.invalid.get(event_id) or report.returned.get(event_id)
                tracing.fail(span, reason or refused or "not confirmed")
            span.end()
