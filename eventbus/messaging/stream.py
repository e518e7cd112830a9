"""Reads the stream of past events: from anywhere in it, in batches, as often as one likes.

Each message has an offset, which grows from message to message; now and then one is left out.
"""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from amqp import Message as AmqpMessage
from kombu.message import Message

from eventbus.messaging.amqps import Connection

#: Where to begin: at the oldest message that is there, among the last ones, at the end, at an
#: offset, or at a time. The broker begins a little before a time, at the oldest message if an
#: offset is no longer there, and at the end if it is not there yet.
Start = Literal["first", "last", "next"] | int | datetime

#: Messages on their way to the reader. The broker sends whole chunks of the stream's file.
PREFETCH = 1_000

#: The property `type` of a message that is no event: it marks where the stream's end was.
_FENCE = "fence"

#: Seconds to wait for the confirm of a fence, and then for the fence itself.
_FENCE_TIMEOUT = 15.0

#: Seconds to wait for the stream's last messages, and for more of them: the broker delivers whole
#: chunks of its file.
_END_TIMEOUT = 5.0
_LAST_SILENCE = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of the stream, at its offset."""

    offset: int
    message: Message

    @property
    def published_at(self) -> datetime | None:
        """When it was published, to the second, if it says so."""
        return published_at(self.message)


class Stream:
    """The stream, open at one place; it is closed with its connection.

    Every method raises the connection's own errors, after which another one must be opened.
    """

    def __init__(
        self, connection: Connection, name: str, start: Start, *, prefetch: int = PREFETCH
    ) -> None:
        """`connection` connects here if it has not yet; it may serve nothing else."""
        self._name = name
        self._connection = connection
        self._channel = connection.channel()
        self._entries: deque[Entry] = deque()
        #: Of the first message that came, be it a fence; None before.
        self.first_offset: int | None = None
        self._unanswered = 0
        self._last_tag = ""
        self._arrived_to = 0
        # A stream has no consumers without a limit, nor any that acknowledge by themselves.
        self._channel.basic_qos(0, prefetch, False)
        self._channel.basic_consume(
            name, callback=self._arrive, arguments={"x-stream-offset": _offset(start)}
        )

    @property
    def position(self) -> int:
        """The offset below which everything from its begin on was returned, or passed over."""
        return self._entries[0].offset if self._entries else self._arrived_to

    def read(self, limit: int, timeout: float) -> Sequence[Entry]:
        """Return the next messages, in their order: what has arrived, at most `limit`.

        Waits for the first one for `timeout` seconds, and returns none when it does not come.
        """
        deadline = time.monotonic() + timeout
        while not self._entries and self._arrives(max(0.0, deadline - time.monotonic())):
            # A fence, for the most part, is nothing to return.
            self._ask_for_more()
        found = [self._entries.popleft() for _ in range(min(limit, len(self._entries)))]
        self._ask_for_more()
        return found

    def close(self) -> None:
        """Close the channel; the connection stays."""
        with suppress(*self._connection.connection_errors, *self._connection.channel_errors):
            self._channel.close()

    def _arrives(self, timeout: float) -> bool:
        """Take in all that has arrived; waits for something, and returns whether it came."""
        came = False
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0 if came else timeout)
                came = True
        return came

    def _arrive(self, raw: AmqpMessage) -> None:
        message = self._channel.message_to_python(raw)
        self._last_tag = message.delivery_tag
        self._unanswered += 1
        if self.first_offset is None:
            self.first_offset = _offset_of(message)
        self._arrived_to = _offset_of(message) + 1
        if _is_fence(message):
            self._fence_at(message)
        else:
            self._entries.append(Entry(_offset_of(message), message))

    def _fence_at(self, message: Message) -> None:
        """Do nothing about a fence: it is for whoever has set it."""

    def _ask_for_more(self) -> None:
        # To acknowledge takes nothing out of a stream. The next ones come while these are handled.
        if self._unanswered and not self._entries:
            self._channel.basic_ack(self._last_tag, multiple=True)
            self._unanswered = 0


class _Fenced(Stream):
    """The stream from its end on, with a mark there."""

    def __init__(self, connection: Connection, name: str) -> None:
        super().__init__(connection, name, "next")
        self._fence = str(uuid4())
        self.offset: int | None = None

    def _fence_at(self, message: Message) -> None:
        if message.properties.get("message_id") == self._fence:
            self.offset = _offset_of(message)

    def set(self) -> int:
        fence = AmqpMessage("", type=_FENCE, message_id=self._fence, delivery_mode=2)
        # On the channel that reads: the broker attaches the reader first.
        self._channel.basic_publish(fence, routing_key=self._name)
        deadline = time.monotonic() + _FENCE_TIMEOUT
        while self.offset is None:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError(f"{self._name} did not return its fence in {_FENCE_TIMEOUT:g} s")
            self.read(PREFETCH, min(left, 1.0))
        return self.offset


def watermark(connection: Connection, name: str) -> int:
    """Return an offset: whatever was confirmed to its publisher before the call is below it.

    It leaves a message at the stream's end, which no reader sees, and so needs the right to publish
    to any queue. Raises `TimeoutError`.
    """
    fenced = _Fenced(connection, name)
    try:
        return fenced.set()
    finally:
        fenced.close()


def end(connection: Connection, name: str) -> int:
    """Return an offset: every message that the stream had at the call is below it; 0 if none was.

    Unlike `watermark` it writes nothing. What was confirmed a moment ago may be missing. Raises
    `TimeoutError` when the broker does not deliver what it has.
    """
    # Twice: a message that is found in an empty stream may have come after the first look.
    for _ in range(2):
        if reached := _last(connection, name):
            return reached
        if not oldest(connection, name, _END_TIMEOUT):
            return 0
    raise TimeoutError(f"{name} did not deliver its last messages in {_END_TIMEOUT:g} s")


def _last(connection: Connection, name: str) -> int:
    """Return the offset after the last messages; 0 if none comes within `_END_TIMEOUT`."""
    stream = Stream(connection, name, "last")
    try:
        deadline = time.monotonic() + _END_TIMEOUT
        while stream.read(PREFETCH, _LAST_SILENCE if stream.position else _END_TIMEOUT):
            if time.monotonic() > deadline:
                break
        return stream.position
    finally:
        stream.close()


def oldest(connection: Connection, name: str, timeout: float) -> Entry | None:
    """Return the oldest message that is there; None if none comes within `timeout` seconds."""
    stream = Stream(connection, name, "first", prefetch=1)
    try:
        return next(iter(stream.read(1, timeout)), None)
    finally:
        stream.close()


def published_at(message: Any) -> datetime | None:
    """Return the time in a message's properties; None if there is none, or one beyond year 9999."""
    seconds = message.properties.get("timestamp")
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    return None


def _is_fence(message: Message) -> bool:
    # Services cannot publish to the default exchange: an event of theirs is never passed over.
    is_direct = message.delivery_info.get("exchange") == ""
    return is_direct and message.properties.get("type") == _FENCE


def _offset(start: Start) -> Any:
    # As an AMQP timestamp, which is encoded from a naive UTC time.
    return start.astimezone(UTC).replace(tzinfo=None) if isinstance(start, datetime) else start


def _offset_of(message: Message) -> int:
    return int(message.headers["x-stream-offset"])
