"""A channel in confirm mode, and the batches that its delivery tags stand for."""

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

#: Bytes that leave together: some fifty events.
_PIECE = 32 * 1024


class _Channel(LimitedWait, Channel):
    """py-amqp's channel, which stays closed when the broker has closed it.

    py-amqp opens it again, out of confirm mode, and raises the error wherever it is read.
    """

    on_objection: Callable[[str], None]

    def abandon(self) -> None:
        """Close without waiting for the answer, which a queue that hangs may hold up."""
        self.is_closing = True
        self.send_method(spec.Channel.Close, "BsBB", (0, "", 0, 0))

    def _on_close(self, code: int, text: str, class_id: int, method_id: int) -> None:
        self.send_method(spec.Channel.CloseOk)
        error = error_for_code(code, text, (class_id, method_id), ChannelError)
        self.on_objection(f"{type(error).__name__}: {error}")
        self.collect()


class ConfirmChannel:
    """Publishes batches, and takes in what becomes of each message."""

    def __init__(
        self, connection: Any, messages: EventMessages, has_room: Callable[[], bool]
    ) -> None:
        """`has_room` tells whether the broker takes messages at present."""
        self._connection = connection
        self._messages = messages
        self._has_room = has_room
        self._frame_max: int = connection.frame_max
        self._piece = bytearray()
        self._tag = 0
        #: The oldest first; the last one is the one that is sent.
        self.in_flight: list[InFlight] = []
        #: Whether the broker did not take a message.
        self.has_refused = False
        #: Why the broker has closed the channel, if it has.
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
        """Publish a message, which leaves with the next ones, or by `flush`."""
        try:
            frames = self._messages.frames(
                outgoing.event_id,
                outgoing.type,
                outgoing.event,
                in_flight.spans.begin(outgoing),
                channel=self._id,
                frame_max=self._frame_max,
            )
        except Exception as error:
            # Whatever is wrong with one event: the others go on.
            in_flight.report.invalid[outgoing.event_id] = f"{type(error).__name__}: {error}"
            return
        self._piece += frames
        self._tag += 1
        in_flight.unconfirmed[self._tag] = (outgoing.event_id, outgoing.type)
        if len(self._piece) >= _PIECE:
            self.flush()

    def flush(self) -> None:
        """Let the rest leave, unless the broker takes nothing.

        Not all at once: the broker works on the first piece while the next one is made. Nor each
        message by itself: each write has its price in TLS and kernel.
        """
        if not self._piece:
            return
        self._hear()
        if self._has_room() and not self.objection:
            piece, self._piece = bytes(self._piece), bytearray()
            self._connection.transport.write(piece)

    def forget(self, in_flight: InFlight) -> None:
        """Take in nothing more for a batch."""
        if in_flight in self.in_flight:
            self.in_flight.remove(in_flight)

    def close(self) -> None:
        """Give the channel up, but not its connection."""
        if not self.objection:
            self._channel.abandon()

    def _hear(self) -> None:
        # That the broker is short of memory, or objects, is known before more is written: what it
        # does not read would fill the socket's buffers, and block.
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
