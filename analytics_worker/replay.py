"""Replay: the projections are rebuilt from the stream in shadow tables, which then replace them.

The live reader continues in the meantime. Before the swap, the replay locks the position, so the
live reader waits, and reads the messages that the shadow tables lack. Both then cover the stream up
to the same offset.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from analytics_worker import position
from analytics_worker.domain import minute
from analytics_worker.projection import Unprojectable, is_passing, project, skip
from analytics_worker.shadow_tables import put_in_place, tables
from common.bus import STREAM
from eventbus.database.db import engine_of, transaction
from eventbus.database.db import sessions as sessions_of
from eventbus.errors import ExpectedError
from eventbus.messaging.amqps import Connection
from eventbus.messaging.stream import Entry, Start, Stream

#: Maximum number of messages in one transaction.
BATCH = 1_000

#: Seconds to wait for a message that the stream must contain.
PATIENCE = 30.0

#: The maximum difference between the clocks of the API's processes and of the relays. An event is
#: published after its order was placed. Therefore, if an order was placed at least this long after
#: the first message that is read, all its events are read.
SKEW = timedelta(minutes=2)


class ReplayError(ExpectedError):
    """The projections were not rebuilt, and are unchanged."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The progress of a replay."""

    read: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """The result of a replay. `since` is the first rebuilt minute, or None for all minutes."""

    since: datetime | None
    first_offset: int
    last_offset: int
    events: int
    seconds: float


class Replay:
    """One replay over two engines: one for the live tables, one for the shadow tables."""

    def __init__(
        self,
        live: Engine,
        beside: Engine,
        connection: Connection,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        limit: float = 3600.0,
    ) -> None:
        """`beside` has the schema `BESIDE` first in its search path; `limit` is in seconds."""
        self._live, self._beside = sessions_of(live), sessions_of(beside)
        self._connection = connection
        self._progress = progress
        self._limit = limit
        self._events = 0

    def run(self, start: Start) -> Rebuilt:
        """Rebuild the minutes from `start` on. Raises `ReplayError` and the database's errors.

        Earlier minutes stay unchanged, because the stream does not contain all their events.
        """
        began = time.monotonic()
        with tables(engine_of(self._live)):
            at = _moment(start)
            # Reading starts earlier than requested, because all events of the first minute must be
            # read.
            self._stream = Stream(self._connection, STREAM, at - 2 * SKEW if at else start)
            self._until = began + self._limit
            self._waiting: list[Entry] = []
            first = self._first()
            whole = None if self._stream.first_offset == 0 else _whole_from(first)
            since = _latest(whole, minute(at) if at else None)
            self._since = since
            self._read_beside(first)
            last = self._exchange(first)
        return Rebuilt(
            since=since,
            first_offset=first.offset,
            last_offset=last,
            events=self._events,
            seconds=time.monotonic() - began,
        )

    def _first(self) -> Entry:
        with transaction(self._live) as session:
            reached = position.read(session)
        if reached is None:
            raise ReplayError("nothing to replay: the reader has not read anything yet")
        entry = self._next(reached.offset, take=False)
        if entry is None:
            raise ReplayError(f"nothing to replay: the reader is at offset {reached.offset}")
        self._reached = entry.offset - 1
        return entry

    def _read_beside(self, first: Entry) -> None:
        """Read the messages that the live reader has read, until it is no longer ahead."""
        while True:
            with transaction(self._live) as session:
                live = position.read(session)
            if live is None or self._reached >= live.offset:
                return
            self._catch_up(live.offset)
            self._progress(
                Progress(
                    read=self._reached - first.offset + 1, total=live.offset - first.offset + 1
                )
            )

    def _catch_up(self, offset: int) -> None:
        """Project one batch, or fewer messages if this offset is reached."""
        batch: list[Entry] = []
        while len(batch) < BATCH and self._reached < offset:
            entry = self._next(offset)
            if entry is None:
                # The stream no longer has the message at the offset.
                self._reached = offset
                break
            batch.append(entry)
            self._reached = entry.offset
        self._project(batch)
        self._events += len(batch)

    def _exchange(self, first: Entry) -> int:
        with transaction(self._live) as session:
            # From here on, the live reader waits.
            live = position.read(session, lock=True)
            if live is None:
                raise ReplayError("the projections were emptied during the replay")
            while self._reached < live.offset:
                self._catch_up(live.offset)
            put_in_place(session, self._since, first.offset, live.offset)
        return live.offset

    def _next(self, offset: int, *, take: bool = True) -> Entry | None:
        """Return the next message up to this offset, or None if the next message is beyond it."""
        deadline = min(time.monotonic() + PATIENCE, self._until)
        while not self._waiting:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ReplayError(
                    f"the stream did not deliver the message at offset {offset} in time"
                )
            self._waiting = list(self._stream.read(BATCH, left))[::-1]
        if self._waiting[-1].offset > offset:
            return None
        return self._waiting.pop() if take else self._waiting[-1]

    def _project(self, batch: list[Entry]) -> None:
        try:
            with transaction(self._beside) as session:
                project(session, batch, since=self._since)
        except Exception as error:
            if is_passing(error):
                raise
        else:
            return
        # The messages are projected individually, as in the reader.
        for entry in batch:
            try:
                with transaction(self._beside) as session:
                    project(session, [entry], since=self._since)
            except Exception as error:
                if is_passing(error):
                    raise
                with transaction(self._beside) as session:
                    skip(session, [Unprojectable(entry, type(error).__name__)])


def _whole_from(first: Entry) -> datetime:
    """Return the first minute without events before this message."""
    return minute((first.published_at or datetime.now(UTC)) + SKEW)


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((m for m in (one, other) if m), default=None)


def _moment(start: Start) -> datetime | None:
    return start.astimezone(UTC) if isinstance(start, datetime) else None
