"""A channel in confirm mode, with the batch to which each delivery tag belongs."""

import select
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

from amqp import Channel, Message, spec
from amqp.exceptions import ChannelError, error_for_code

from eventbus.messaging.amqps import LimitedWait
from eventbus.messaging.event_message import EventMessages
from eventbus.messaging.in_flight import InFlight, Outgoing
from eventbus.telemetry.privacy import described

#: Number of bytes that are written together, which is about fifty events.
_FLUSH_BYTES = 32 * 1024


class _Channel(LimitedWait, Channel):
    """py-amqp's channel, except that it stays closed after the broker has closed it.

    py-amqp reopens the channel without confirm mode, and raises the error wherever it is read.
    """

    on_objection: Callable[[str], None]

    def abandon(self) -> None:
        """Close without waiting for the reply, which a hanging queue may delay."""
        self.is_closing = True
        self.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.send_method(spec.Channel.CloseOk)
        error = error_for_code(code, text, (class_id, method_id), ChannelError)
        self.on_objection(described(error))
        self.collect()


class ConfirmChannel:
    """A publisher of batches, which records the outcome of each message."""

    def __init__(
        self, connection: Any, messages: EventMessages, has_room: Callable[[], bool]
    ) -> None:
        """`has_room` returns whether the broker currently accepts messages."""
        self._connection = connection
        self._messages = messages
        self._has_room = has_room
        self._frame_max: int = connection.frame_max
        self._buffer = bytearray()
        self._tag = 0
        #: The unconfirmed batches, oldest first; the last batch is currently being sent.
        self.in_flight: list[InFlight] = []
        #: Whether the broker has refused a message.
        self.has_refused = False
        #: The reason why the broker closed the channel, or None.
        self.objection: str | None = None
        self._channel = _Channel(connection)
        self._channel.on_objection = self._on_objection
        self._channel.open()
        self._channel.confirm_select()
        self._id: int = self._channel.channel_id
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_nack"].add(self._on_nack)
        self._channel.events["basic_return"].add(self._on_return)

    def send(self, in_flight: InFlight, outgoing: Outgoing) -> None:
        """Publish a message; it is written together with the next messages, or by `flush`."""
        try:
            frames = self._messages.frames(
                outgoing.event_id,
                outgoing.type,
                outgoing.event,
                in_flight.spans.begin(outgoing),
                subject=outgoing.subject,
                channel=self._id,
                frame_max=self._frame_max,
            )
        except Exception as error:
            # An error of one event must not stop the others.
            in_flight.report.invalid[outgoing.event_id] = described(error)
            return
        self._buffer += frames
        self._tag += 1
        in_flight.unconfirmed[self._tag] = (outgoing.event_id, outgoing.type)
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the buffered messages, unless the broker rejects messages.

        A batch is sent in several writes, so the broker processes the first part while the next is
        encoded. A write contains several messages, because each write has a cost in TLS and in the
        kernel.
        """
        if not self._buffer:
            return
        self._read_answers()
        if self._has_room() and not self.objection:
            frames, self._buffer = bytes(self._buffer), bytearray()
            self._connection.transport.write(frames)

    def forget(self, in_flight: InFlight) -> None:
        """Ignore later confirms for a batch."""
        if in_flight in self.in_flight:
            self.in_flight.remove(in_flight)

    def close(self) -> None:
        """Close the channel, but not its connection."""
        if not self.objection:
            self._channel.abandon()

    def _read_answers(self) -> None:
        # Read alarms and errors before the next write: data that the broker does not read would
        # fill the socket's buffers, and the write would block.
        sock = self._connection.transport.sock
        if sock.pending() or select.select([sock], [], [], 0)[0]:
            with suppress(TimeoutError):
                self._connection.drain_events(timeout=0)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for in_flight in self.in_flight:
            in_flight.ack(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self.has_refused = True
        for in_flight in self.in_flight:
            in_flight.nack(tag, multiple)

    def _on_return(self, error: Exception, exchange: str, key: str, message: Message) -> None:
        event_id = UUID(message.properties["message_id"])
        for in_flight in self.in_flight:
            if (event_id, key) in in_flight.unconfirmed.values():
                in_flight.returned.add((event_id, key))
                in_flight.report.returned[event_id] = f"{exchange} has no queue for {key}"

    def _on_objection(self, reason: str) -> None:
        self.objection = reason
        for in_flight in self.in_flight:
            if in_flight.unconfirmed:
                in_flight.report.error = reason
                in_flight.report.objected = True
