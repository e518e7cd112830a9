"""Reads the stream into the projections: each batch and its position are one transaction.

One reader reads at a time; others wait for its lock.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from analytics_worker import position
from analytics_worker.position import Position
from analytics_worker.projection import REASON_LIMIT, Unprojectable, is_passing, project, skip
from common.bus import STREAM
from eventbus import tls
from eventbus.database.db import Sessions
from eventbus.messaging.amqps import Connection
from eventbus.messaging.stream import Entry, Stream, oldest
from eventbus.settings.broker import broker_url
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Messages in one transaction.
BATCH = 500

#: Seconds from the begin of one transaction to that of the next, unless the latter is full. The
#: figures are by the minute, and a transaction costs as much as a dozen of its events.
INTERVAL = 0.5

#: Seconds between two looks whether another reader still reads.
HELD_DELAY = 0.1

#: Seconds after which a stream that gives nothing, not even the last message that was read, is
#: looked at from its beginning.
SILENCE = 5.0

#: Seconds between two attempts to reach the broker.
BROKER_DELAY = 1.0

Connect = Callable[[], Connection]


class Reader:
    """Reads from where the projections are, and goes on for ever, a tick at a time."""

    def __init__(self, sessions: Sessions, connect: Connect) -> None:
        self._sessions = sessions
        self._connect = connect
        self._source: _Source | None = None
        self._broker_error: str | None = None

    @classmethod
    def from_settings(cls, sessions: Sessions, settings: ServiceSettings) -> "Reader":
        """Return the reader of a process; it connects at its first tick."""
        # Of several nodes each attempt is at the next one.
        nodes = cycle(broker_url(settings).split(";"))

        def connect() -> Connection:
            return Connection(
                next(nodes),
                ssl=tls.broker_options(settings),
                heartbeat=settings.broker_heartbeat,
                connect_timeout=5,
                transport_options={
                    "client_properties": {"connection_name": "analytics-reader stream"},
                },
            )

        return cls(sessions, connect)

    def read(self, until: float) -> None:
        """Read what is there, and what comes, until `time.monotonic()` is `until`."""
        try:
            # One connection for all: its end is the lock's, too.
            with self._sessions.kw["bind"].connect() as connection:
                session = Session(connection, expire_on_commit=False)
                try:
                    self._read(session, until)
                finally:
                    session.rollback()
                    with suppress(DBAPIError), session.begin():
                        position.release(session)
        except DBAPIError as error:
            # The next tick tries again, from what was committed.
            log.error("the database failed the reader", extra={"reason": described(error)})
            self.close()

    def close(self) -> None:
        """Close the connection to the broker."""
        if self._source:
            self._source.close()
        self._source = None

    def _read(self, session: Session, until: float) -> None:
        while not _held(session):
            # Another one reads: what this one had open is behind soon.
            self.close()
            if time.monotonic() + HELD_DELAY > until:
                return
            time.sleep(HELD_DELAY)
        while (left := until - time.monotonic()) > 0:
            began = time.monotonic()
            try:
                is_full = self._read_some(session, left)
                self._note(None)
                if not is_full:
                    time.sleep(max(0.0, min(began + INTERVAL, until) - time.monotonic()))
            except _errors() as error:
                self._note(described(error))
                self.close()
                time.sleep(min(BROKER_DELAY, max(0.0, until - time.monotonic())))

    def _read_some(self, session: Session, timeout: float) -> bool:
        """Read a batch; returns whether more of the stream is there already."""
        with session.begin():
            at = position.read(session)
        if self._source is None or self._source.at != at:
            # At the start; or a replay, or another reader, has moved on meanwhile.
            self.close()
            self._source = _Source(self._connect(), at)
        entries = self._source.read(session, timeout)
        if self._source.is_strange:
            with session.begin():
                log.error("the stream is another one: it is read from its beginning")
                position.note_gap(session, at.offset + 1 if at else 0, None)
            self.close()
            self._source = _Source(self._connect(), None, instead_of=at)
        elif entries and not _apply(session, self._source, entries):
            self.close()
        elif not entries and at and self._source.is_known:
            with session.begin():
                if position.read(session, lock=True) == at:
                    position.write(session, at, caught_up=True)
        return len(entries) == BATCH

    def _note(self, problem: str | None) -> None:
        # One line when the broker goes and one when it is back, not one a second.
        if problem != self._broker_error:
            if problem:
                log.error("the broker does not give the stream", extra={"reason": problem})
            else:
                log.info("the broker gives the stream again")
        self._broker_error = problem


class _Source:
    """The stream, open at the last message that was read: it must be found there again."""

    def __init__(
        self, connection: Connection, at: Position | None, *, instead_of: Position | None = None
    ) -> None:
        #: What the database must say for this to be right.
        self.at = instead_of or at
        self._connection = connection
        # Once: `connect()` would sleep for two seconds and try again, beyond the tick's end.
        connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        self._stream = Stream(connection, STREAM, at.offset if at else "first")
        self._opened = time.monotonic()
        #: Whether it is the stream that was read before.
        self.is_known = at is None
        self.is_strange = False

    def read(self, session: Session, timeout: float) -> Sequence[Entry]:
        self._connection.heartbeat_check(rate=2)
        entries = self._stream.read(BATCH, timeout)
        if self.is_known or self.at is None:
            return entries
        if not entries:
            if time.monotonic() - self._opened > SILENCE:
                self._look_again()
            return ()
        first = Position.of(entries[0])
        if first == self.at:
            self.is_known = True
            return entries[1:]
        if first.offset <= self.at.offset:
            self.is_strange = True
            return ()
        self.is_known = True
        log.error(
            "the stream has lost messages before they were read",
            extra={"first_offset": self.at.offset + 1, "last_offset": first.offset - 1},
        )
        with session.begin():
            position.note_gap(session, self.at.offset + 1, first.offset - 1)
        return entries

    def close(self) -> None:
        with suppress(Exception):
            self._connection.collect(socket_timeout=1)

    def _look_again(self) -> None:
        # At the end of a shorter stream, where the broker has begun instead.
        self._opened = time.monotonic()
        self.is_strange = oldest(self._connection, STREAM, timeout=1.0) is not None


def _held(session: Session) -> bool:
    with session.begin():
        return position.hold(session)


def _errors() -> tuple[type[Exception], ...]:
    connection = Connection(transport="amqps")
    return (*connection.connection_errors, *connection.channel_errors)


def _apply(session: Session, source: _Source, entries: Sequence[Entry]) -> bool:
    """Project a batch; each message by itself if that fails. False if another one has read on."""
    try:
        return _project(session, source, entries)
    except Exception as error:
        if is_passing(error):
            raise
        log.error("a batch failed: each of its messages is projected alone")
    for entry in entries:
        try:
            done = _project(session, source, [entry])
        except Exception as error:
            if is_passing(error):
                raise
            log.exception("a message cannot be projected", extra={"offset": entry.offset})
            done = _skip(session, source, entry, error)
        if not done:
            return False
    return True


def _project(session: Session, source: _Source, entries: Sequence[Entry]) -> bool:
    with session.begin():
        # In one transaction, or a crash in between would skip the batch, or count it twice.
        if position.read(session, lock=True) != source.at:
            return False
        project(session, entries)
        reached = Position.of(entries[-1])
        position.write(session, reached, caught_up=len(entries) < BATCH)
    source.at = reached
    return True


def _skip(session: Session, source: _Source, entry: Entry, error: Exception) -> bool:
    with session.begin():
        if position.read(session, lock=True) != source.at:
            return False
        skip(session, [Unprojectable(entry, described(error)[:REASON_LIMIT])])
        reached = Position.of(entry)
        position.write(session, reached, caught_up=False)
    source.at = reached
    return True
