"""Publishes events with pipelined confirms: hundreds are on their way before the first answer."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol
from uuid import UUID

from amqp import Channel, Message
from kombu.connection import Connection
from opentelemetry.trace import Span, SpanKind

from common import codec, tracing
from common.event_message import EventMessages
from common.kombu_topology import EVENTS

log = logging.getLogger(__name__)

#: Seconds until all confirms of one batch must have arrived. A healthy broker takes milliseconds;
#: one with a memory or disk alarm, or without a quorum, takes for ever.
CONFIRM_TIMEOUT = 10.0

#: Bytes that leave together: some fifty events.
_PIECE = 32 * 1024


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
    #: A queue is full, or its replicas did not agree.
    refused: set[UUID] = field(default_factory=set)
    #: Why the batch ended early, if it did.
    error: str | None = None
    #: Whether it ended because the broker objects to one of its events: a right is missing, say.
    objected: bool = False
    #: Types of confirmed events that no queue is bound to: another version of each had one.
    unheard: frozenset[str] = frozenset()


#: An event's id, and the version of this message.
_Message = tuple[UUID, str]


class Publisher(Protocol):
    """Puts events on the exchange and tells what became of each."""

    def send(self, batch: Iterable[Outgoing]) -> "InFlight":
        """Publish in this order, wait for nothing, never raise for the broker's state."""

    def settle(self, in_flight: "InFlight") -> Report:
        """Wait for the confirms of what was sent, never raise for the broker's state."""

    def heartbeat(self) -> None:
        """Keep an idle connection alive."""


class ConfirmingPublisher:
    """A `Publisher` over one connection, opened at first use and anew after every error."""

    def __init__(
        self, url: str, *, tls: dict[str, Any], service: str, user: str, heartbeat: int
    ) -> None:
        self._connection = Connection(
            url,
            ssl=tls,
            heartbeat=heartbeat,
            connect_timeout=5,
            transport_options={
                "client_properties": {"connection_name": f"{service}-relay publisher"},
                "write_timeout": CONFIRM_TIMEOUT,
            },
        )
        self._messages = EventMessages(service, user)
        self._channel: _ConfirmChannel | None = None

    def publish(self, batch: Iterable[Outgoing]) -> Report:
        """Publish in this order, wait for the confirms, never raise for the broker's state."""
        return self.settle(self.send(batch))

    def send(self, batch: Iterable[Outgoing]) -> "InFlight":
        """Publish in this order, wait for nothing, never raise for the broker's state."""
        in_flight = InFlight()
        with self._failing(in_flight):
            channel = self._open()
            channel.in_flight.append(in_flight)
            for outgoing in batch:
                channel.send(in_flight, outgoing)
            channel.flush()
        return in_flight

    def settle(self, in_flight: "InFlight") -> Report:
        """Wait for the confirms of what was sent, never raise for the broker's state."""
        with self._failing(in_flight):
            if self._channel and not in_flight.report.error:
                self._channel.wait(in_flight, CONFIRM_TIMEOUT)
        return in_flight.conclude()

    def heartbeat(self) -> None:
        """Show the broker a sign of life; call it about once a second while idle."""
        try:
            if self._channel:
                # The broker's own signs count once they are read, and nothing else is while idle.
                with suppress(TimeoutError):
                    self._connection.drain_events(timeout=0)
                self._connection.heartbeat_check(rate=2)
        except (*self._connection.connection_errors, *self._connection.channel_errors):
            self.close()

    def close(self) -> None:
        """Close the connection; the next publish opens another."""
        self._channel = None
        with suppress(Exception):
            self._connection.collect(socket_timeout=1)

    @contextmanager
    def _failing(self, in_flight: "InFlight") -> Iterator[None]:
        try:
            yield
        except (*self._connection.connection_errors, *self._connection.channel_errors) as error:
            channel = self._channel
            objected = channel and isinstance(error, self._connection.channel_errors)
            # What else is on its way shares its end.
            for lost in (in_flight, *(channel.in_flight if channel else ())):
                lost.report.error = f"{type(error).__name__}: {error}"
                lost.report.objected = bool(objected)
            # After any error the confirms that are still to come could be taken for later ones.
            self.close()

    def _open(self) -> "_ConfirmChannel":
        if self._channel is None:
            # Once: `connect()` would sleep for two seconds and try again, beyond the tick's end.
            try:
                self._connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            except Exception:
                # The next attempt is at the next node, if there are several.
                self._connection.maybe_switch_next()
                raise
            self._channel = _ConfirmChannel(self._connection, self._messages)
        return self._channel


class _Spans:
    """The publishings of one batch, as spans: from the publish to its confirm, or to its failure.

    The envelope is what the outbox holds; the header `traceparent` names the publishing.
    """

    def __init__(self) -> None:
        self._open: list[tuple[Outgoing, Span]] = []

    def begin(self, outgoing: Outgoing) -> str | None:
        """Return the header; None when nothing is recorded."""
        if not tracing.recording():
            return None
        about = {
            "messaging.system": "rabbitmq",
            "messaging.operation.type": "send",
            "messaging.destination.name": EVENTS.name,
            "messaging.rabbitmq.destination.routing_key": outgoing.type,
            "messaging.message.id": str(outgoing.event_id),
            "event.id": str(outgoing.event_id),
            "event.type": outgoing.type,
            tracing.ORDER_ID: str(outgoing.subject),
        }
        parent = codec.traceparent(outgoing.event)
        span = tracing.begin(f"publish {outgoing.type}", SpanKind.PRODUCER, parent, about)
        self._open.append((outgoing, span))
        return tracing.traceparent(span)

    def end(self, report: Report) -> None:
        for outgoing, span in self._open:
            event_id = outgoing.event_id
            if event_id not in report.confirmed:
                refused = "refused" if event_id in report.refused else report.error
                tracing.fail(span, report.returned.get(event_id) or refused or "not confirmed")
            span.end()


class InFlight:
    """A batch on its way to the broker: what has become of it so far, and what is missing."""

    def __init__(self) -> None:
        self.report = Report()
        self.spans = _Spans()
        #: By delivery tag, in their order.
        self.unconfirmed: dict[int, _Message] = {}
        #: What had no queue.
        self.returned: set[_Message] = set()

    def ack(self, tag: int, multiple: bool) -> None:
        """Take in a confirm. The broker sends a return before the ack of the same message."""
        routed = set(self._take(tag, multiple)) - self.returned
        self.report.confirmed |= {event_id for event_id, _ in routed}

    def nack(self, tag: int, multiple: bool) -> None:
        """Take in that the broker did not take messages."""
        self.report.refused |= {event_id for event_id, _ in self._take(tag, multiple)}

    def conclude(self) -> Report:
        """Return what is known of the events from what is known of their messages."""
        report = self.report
        missing = {event_id for event_id, _ in self.unconfirmed.values()}
        report.confirmed -= missing | report.refused
        for event_id in missing | report.refused | report.confirmed:
            report.returned.pop(event_id, None)
        report.unheard = frozenset(
            event_type for event_id, event_type in self.returned if event_id in report.confirmed
        )
        self.spans.end(report)
        return report

    def _take(self, tag: int, multiple: bool) -> list[_Message]:
        tags = list(takewhile(lambda t: t <= tag, self.unconfirmed)) if multiple else [tag]
        return [self.unconfirmed.pop(t) for t in tags if t in self.unconfirmed]


class _ConfirmChannel:
    """A channel in confirm mode, and the batches that its delivery tags stand for."""

    def __init__(self, connection: Connection, messages: EventMessages) -> None:
        self._connection = connection
        self._messages = messages
        self._channel: Channel = connection.channel()
        self._channel.confirm_select()
        self._frame_max: int = connection.connection.frame_max
        self._piece = bytearray()
        self._tag = 0
        #: The oldest first; the last one is the one that is sent.
        self.in_flight: list[InFlight] = []
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def send(self, in_flight: InFlight, outgoing: Outgoing) -> None:
        """Publish a message, which leaves with the next ones, or by `flush`."""
        self._piece += self._messages.frames(
            outgoing.event_id,
            outgoing.type,
            outgoing.event,
            in_flight.spans.begin(outgoing),
            channel=self._channel.channel_id,
            frame_max=self._frame_max,
        )
        self._tag += 1
        in_flight.unconfirmed[self._tag] = (outgoing.event_id, outgoing.type)
        if len(self._piece) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Let the rest leave.

        Not all at once: the broker works on the first piece while the next one is made. Nor each
        message by itself: each write has its price in TLS and kernel.
        """
        piece, self._piece = bytes(self._piece), bytearray()
        self._connection.connection.transport.write(piece)

    def wait(self, in_flight: InFlight, timeout: float) -> None:
        """Take in confirms until none is missing; raises `TimeoutError` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while in_flight.unconfirmed:
            self._connection.drain_events(timeout=max(0.001, deadline - time.monotonic()))
        self.in_flight.remove(in_flight)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for in_flight in self.in_flight:
            in_flight.ack(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for in_flight in self.in_flight:
            in_flight.nack(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, key: str, message: Message) -> None:
        event_id = UUID(message.properties["message_id"])
        for in_flight in self.in_flight:
            if (event_id, key) in in_flight.unconfirmed.values():
                in_flight.returned.add((event_id, key))
                in_flight.report.returned[event_id] = f"{exchange} has no queue for {key}"
