"""The stream of past events, which can be read in batches from any position, any number of times.

Each message has an offset. Offsets increase from message to message, with occasional gaps.
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

#: The position from which to read: the oldest message, one of the last messages, the end, an
#: offset, or a time. For a time, the broker starts slightly earlier. If an offset no longer exists,
#: it starts at the oldest message; if an offset does not exist yet, it starts at the end.
Start = Literal["first", "last", "next"] | int | datetime

#: Number of messages in flight to the reader. The broker sends complete chunks of the stream's
#: file.
PREFETCH = 1_000

#: The property `type` of a fence: a message that is not an event, but marks the stream's end.
_FENCE = "fence"

#: Seconds to wait until the stream returns a fence.
_FENCE_TIMEOUT = 15.0

#: Seconds to wait for the first and then for each further message at the stream's end, because the
#: broker delivers complete chunks of its file.
_END_TIMEOUT = 5.0
_LAST_SILENCE = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """A message of the stream, and its offset."""

    offset: int
    message: Message

    @property
    def published_at(self) -> datetime | None:
        """Time of publication, to the second, if the message has it."""
        return published_at(self.message)


class Stream:
    """The stream, open at one position until its connection is closed.

    Every method raises the connection's errors, after which a new connection must be opened.
    """

    def __init__(
        self, connection: Connection, name: str, start: Start, *, prefetch: int = PREFETCH
    ) -> None:
        """`connection` is connected here if necessary. It must not be used for anything else."""
        self._name = name
        self._connection = connection
        self._channel = connection.channel()
        self._entries: deque[Entry] = deque()
        #: Offset of the first message received, which may be a fence; None before.
        self.first_offset: int | None = None
        self._unacknowledged = 0
        self._last_tag = ""
        self._received_to = 0
        # Consumers of a stream must have a prefetch limit and acknowledge explicitly.
        self._channel.basic_qos(0, prefetch, False)
        self._channel.basic_consume(
            name, callback=self._on_message, arguments={"x-stream-offset": _offset(start)}
        )

    @property
    def position(self) -> int:
        """The offset below which all messages since the start were returned or skipped."""
        return self._entries[0].offset if self._entries else self._received_to

    def read(self, limit: int, timeout: float) -> Sequence[Entry]:
        """Return the next messages that have arrived, in stream order, at most `limit`.

        Waits up to `timeout` seconds for the first message; if none arrives, the result is empty.
        """
        deadline = time.monotonic() + timeout
        while not self._entries and self._receive(max(0.0, deadline - time.monotonic())):
            # Only messages that callers do not receive have arrived, usually a fence.
            self._request_more()
        entries = [self._entries.popleft() for _ in range(min(limit, len(self._entries)))]
        self._request_more()
        return entries

    def close(self) -> None:
        """Close the channel; the connection stays open."""
        with suppress(*self._connection.connection_errors, *self._connection.channel_errors):
            self._channel.close()

    def _receive(self, timeout: float) -> bool:
        """Wait for a message, receive all that have arrived, and return whether any have."""
        has_received = False
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0 if has_received else timeout)
                has_received = True
        return has_received

    def _on_message(self, raw: AmqpMessage) -> None:
        message = self._channel.message_to_python(raw)
        self._last_tag = message.delivery_tag
        self._unacknowledged += 1
        if self.first_offset is None:
            self.first_offset = _offset_of(message)
        self._received_to = _offset_of(message) + 1
        if _is_fence(message):
            self._on_fence(message)
        else:
            self._entries.append(Entry(_offset_of(message), message))

    def _on_fence(self, message: Message) -> None:
        """Ignore a fence, which concerns only the reader that has set it."""

    def _request_more(self) -> None:
        # Acknowledging does not remove messages from a stream. More messages arrive while these are
        # handled.
        if self._unacknowledged and not self._entries:
            self._channel.basic_ack(self._last_tag, multiple=True)
            self._unacknowledged = 0


class _Fenced(Stream):
    """The stream from its end onwards, with a fence there."""

    def __init__(self, connection: Connection, name: str) -> None:
        super().__init__(connection, name, "next")
        self._fence_id = str(uuid4())
        self.offset: int | None = None

    def _on_fence(self, message: Message) -> None:
        if message.properties.get("message_id") == self._fence_id:
            self.offset = _offset_of(message)

    def set(self) -> int:
        fence = AmqpMessage("", type=_FENCE, message_id=self._fence_id, delivery_mode=2)
        # The reading channel is used, so that the broker attaches the reader before the fence
        # arrives.
        self._channel.basic_publish(fence, routing_key=self._name)
        deadline = time.monotonic() + _FENCE_TIMEOUT
        while self.offset is None:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError(f"{self._name} did not return its fence in {_FENCE_TIMEOUT:g} s")
            self.read(PREFETCH, min(left, 1.0))
        return self.offset


def watermark(connection: Connection, name: str) -> int:
    """Return an offset above every message that was confirmed to its publisher before the call.

    This leaves a message at the stream's end, which readers skip, and therefore requires permission
    to publish to any queue. Raises `TimeoutError`.
    """
    fenced = _Fenced(connection, name)
    try:
        return fenced.set()
    finally:
        fenced.close()


def end(connection: Connection, name: str) -> int:
    """Return an offset above every message in the stream at the call, or 0 if it is empty.

    Unlike `watermark`, this does not write. Messages confirmed a moment ago may be missing. Raises
    `TimeoutError` if the broker does not deliver the messages of the stream.
    """
    # Try twice, because the oldest message may have arrived after the first attempt found no
    # messages at the end.
    for _ in range(2):
        if offset := _last(connection, name):
            return offset
        if not oldest(connection, name, _END_TIMEOUT):
            return 0
    raise TimeoutError(f"{name} did not deliver its last messages in {_END_TIMEOUT:g} s")


def _last(connection: Connection, name: str) -> int:
    """Return the offset after the last messages, or 0 if none arrive within `_END_TIMEOUT`."""
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
    """Return the oldest message; None if no message arrives within `timeout` seconds."""
    stream = Stream(connection, name, "first", prefetch=1)
    try:
        return next(iter(stream.read(1, timeout)), None)
    finally:
        stream.close()


def published_at(message: Any) -> datetime | None:
    """Return the time in a message's properties; None if it is missing or after the year 9999."""
    seconds = message.properties.get("timestamp")
    with suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    return None


def _is_fence(message: Message) -> bool:
    # Services cannot publish to the default exchange, so their events are never skipped.
    is_direct = message.delivery_info.get("exchange") == ""
    return is_direct and message.properties.get("type") == _FENCE


def _offset(start: Start) -> Any:
    # An AMQP timestamp is encoded from a naive UTC time.
    return start.astimezone(UTC).replace(tzinfo=None) if isinstance(start, datetime) else start


def _offset_of(message: Message) -> int:
    return int(message.headers["x-stream-offset"])
