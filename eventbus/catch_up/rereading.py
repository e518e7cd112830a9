"""Rereading of the stream to find the events that a service's inbox lacks."""

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from amqp import Message
from sqlalchemy.orm import Session

from eventbus.catch_up.past_event import PastEvent
from eventbus.consumer.inbox import already_handled
from eventbus.messaging.amqps import Connection
from eventbus.messaging.stream import Entry, Stream
from eventbus.topology.limits import STREAM_AGE
from eventbus.topology.service import Service

#: The number of messages that are read together.
BATCH = 500

#: Seconds within which the stream must deliver the next message.
_READ_TIMEOUT = 1.0
_SILENCE = 60.0


class _Missed(NamedTuple):
    offset: int
    message: Message


class Rereading:
    """The stream from one offset onwards, without the events that the service has handled.

    Events older than the stream's maximum age are omitted, because the inbox may have deleted their
    ids. Methods raise the connection's errors, after which a new connection must be opened.
    """

    def __init__(self, connection: Connection, service: Service, offset: int) -> None:
        self._service = service
        self._stream = Stream(connection, service.bus.stream, offset, prefetch=BATCH)
        self._missed: deque[_Missed] = deque()
        self._read_to = offset
        self._progressed_at = time.monotonic()

    @property
    def position(self) -> int:
        """The offset below which all missed events have been returned."""
        return self._missed[0].offset if self._missed else self._read_to

    def fill(self, session: Session) -> None:
        """Read more if all events were returned; raise `TimeoutError` if none arrive in time."""
        if self._missed:
            return
        entries = self._stream.read(BATCH, _READ_TIMEOUT)
        self._missed.extend(self._missing(session, entries))
        read_to = max(self._read_to, self._stream.position)
        if read_to > self._read_to:
            self._progressed_at = time.monotonic()
        elif time.monotonic() - self._progressed_at > _SILENCE:
            raise TimeoutError(
                f"{self._service.bus.stream} delivered nothing in {_SILENCE:g} s "
                f"at offset {read_to}"
            )
        self._read_to = read_to

    def take(self, limit: int) -> list[Message]:
        """Return copies of the next missed events, at most `limit`."""
        count = min(limit, len(self._missed))
        return [self._missed.popleft().message for _ in range(count)]

    def close(self) -> None:
        """Close the channel; the connection stays open."""
        self._stream.close()

    def _missing(self, session: Session, entries: Sequence[Entry]) -> list[_Missed]:
        oldest = datetime.now(UTC) - STREAM_AGE
        consumed = self._service.consumed_types
        events = [
            event
            for entry in entries
            if entry.message.headers.get("task") in consumed
            and ((event := PastEvent.of(entry)).time is None or event.time > oldest)
        ]
        handled = already_handled(session, [event.id for event in events if event.id])
        return [
            _Missed(event.entry.offset, event.copy(replayed=False))
            for event in events
            if event.id not in handled
        ]
