"""Publishes events with pipelined confirms: hundreds are on their way before the first answer."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from uuid import UUID

from amqp import Channel, Message
from kombu.connection import Connection

from common import guarded_frames
from common.event_message import EventMessages
from common.in_flight import InFlight, Outgoing, Report

log = logging.getLogger(__name__)

#: Seconds until all confirms of one batch must have arrived. A healthy broker takes milliseconds;
#: one with a memory or disk alarm, or without a quorum, takes for ever.
CONFIRM_TIMEOUT = 10.0

#: Bytes that leave together: some fifty events.
_PIECE = 32 * 1024


class Publisher(Protocol):
    """Puts events on the exchange and tells what became of each."""

    def send(self, batch: Iterable[Outgoing]) -> InFlight:
        """Publish in this order, wait for nothing, never raise for the broker's state."""

    def settle(self, in_flight: InFlight) -> Report:
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
                "frame_handler": guarded_frames.handler,
                "write_timeout": CONFIRM_TIMEOUT,
            },
        )
        self._messages = EventMessages(service, user)
        self._channel: _ConfirmChannel | None = None

    def publish(self, batch: Iterable[Outgoing]) -> Report:
        """Publish in this order, wait for the confirms, never raise for the broker's state."""
        return self.settle(self.send(batch))

    def send(self, batch: Iterable[Outgoing]) -> InFlight:
        """Publish in this order, wait for nothing, never raise for the broker's state."""
        in_flight = InFlight()
        with self._failing(in_flight):
            channel = self._open()
            channel.in_flight.append(in_flight)
            for outgoing in batch:
                channel.send(in_flight, outgoing)
            channel.flush()
        return in_flight

    def settle(self, in_flight: InFlight) -> Report:
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
    def _failing(self, in_flight: InFlight) -> Iterator[None]:
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
        if self._channel and self._channel.refused:
            # Another channel does not help a full queue. But one whose first message came while a
            # queue's leader had died refuses all that follow, until that node is back.
            self._channel.finish(CONFIRM_TIMEOUT)
            self._channel = None
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
        #: Whether the broker did not take a message.
        self.refused = False
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
        if in_flight in self.in_flight:
            self.in_flight.remove(in_flight)

    def finish(self, timeout: float) -> None:
        """Wait for what is on its way, and give the channel up, but not its connection."""
        for in_flight in list(self.in_flight):
            self.wait(in_flight, timeout)
        self._channel.close()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for in_flight in self.in_flight:
            in_flight.ack(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self.refused = True
        for in_flight in self.in_flight:
            in_flight.nack(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, key: str, message: Message) -> None:
        event_id = UUID(message.properties["message_id"])
        for in_flight in self.in_flight:
            if (event_id, key) in in_flight.unconfirmed.values():
                in_flight.returned.add((event_id, key))
                in_flight.report.returned[event_id] = f"{exchange} has no queue for {key}"
