"""The reader, which applies the stream to the projections and commits each batch with its position.

One reader is active at a time; other readers wait for its lock.
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
from eventbus.database.db import Sessions, engine_of
from eventbus.messaging.amqps import Connection
from eventbus.messaging.stream import Entry, Stream, end
from eventbus.settings.broker import broker_url
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Maximum number of messages in one transaction.
BATCH = 500

#: Minimum seconds from the start of one transaction to the start of the next, unless a batch is
#: full. The figures have a resolution of one minute, and a transaction costs as much as a dozen of
#: its events.
INTERVAL = 0.5

#: Seconds between two attempts to acquire the lock while another reader is active.
HELD_DELAY = 0.1

#: Seconds without a message after which the end of the stream is examined. Reading starts at the
#: last message that was read, so at least this message should arrive.
SILENCE = 5.0

#: Seconds between two attempts to connect to the broker.
BROKER_DELAY = 1.0

Connect = Callable[[], Connection]


class Reader:
    """The reader from the position of the projections, one step at a time."""

    def __init__(self, sessions: Sessions, connect: Connect) -> None:
        self._sessions = sessions
        self._connect = connect
        self._source: _Source | None = None
        self._broker_error: str | None = None

    @classmethod
    def from_settings(cls, sessions: Sessions, settings: ServiceSettings) -> "Reader":
        """Return the reader of a process, which connects at its first step."""
        # The nodes of a cluster are tried in turn, one per attempt.
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
        """Read existing and new messages until `time.monotonic()` reaches `until`."""
        try:
            # All work uses a single connection, because the lock ends with its connection.
            with engine_of(self._sessions).connect() as connection:
                session = Session(connection, expire_on_commit=False)
                try:
                    self._read(session, until)
                finally:
                    session.rollback()
                    with suppress(DBAPIError), session.begin():
                        position.release(session)
        except DBAPIError as error:
            # The next step retries from the last commit.
            log.error("reader failed with a database error", extra={"reason": described(error)})
            self.close()

    def close(self) -> None:
        """Close the connection to the broker."""
        if self._source:
            self._source.close()
        self._source = None

    def _read(self, session: Session, until: float) -> None:
        while not _held(session):
            # Another reader is active, so the position of the open source becomes outdated.
            self.close()
            if time.monotonic() + HELD_DELAY > until:
                return
            time.sleep(HELD_DELAY)
        while (left := until - time.monotonic()) > 0:
            began = time.monotonic()
            try:
                is_full = self._read_some(session, left)
                self._log_problem(None)
                if not is_full:
                    time.sleep(max(0.0, min(began + INTERVAL, until) - time.monotonic()))
            except _errors() as error:
                self._log_problem(described(error))
                self.close()
                time.sleep(min(BROKER_DELAY, max(0.0, until - time.monotonic())))

    def _read_some(self, session: Session, timeout: float) -> bool:
        """Read a batch, and return whether the stream already contains more messages."""
        with session.begin():
            at = position.read(session)
        if self._source is None or self._source.at != at:
            # The positions differ at the start, and after a replay or another reader has changed
            # the stored position.
            self.close()
            self._source = _Source(self._connect(), at)
        entries = self._source.read(session, timeout)
        if self._source.is_strange:
            with session.begin():
                log.error("stream replaced")
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

    def _log_problem(self, problem: str | None) -> None:
        # One line is logged at the first failure and one at the recovery, rather than one per
        # second.
        if problem != self._broker_error:
            if problem:
                log.error("stream unavailable", extra={"reason": problem})
            else:
                log.info("stream available again")
        self._broker_error = problem


class _Source:
    """The stream, opened at the last message that was read, which must still be there."""

    def __init__(
        self, connection: Connection, at: Position | None, *, instead_of: Position | None = None
    ) -> None:
        #: The position in the database for which this source is valid.
        self.at = instead_of or at
        self._connection = connection
        try:
            # Try only once: `connect()` would sleep for two seconds and retry, beyond the end of
            # the step.
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            self._stream = Stream(connection, STREAM, at.offset if at else "first")
        except BaseException:
            # Close the connection; otherwise, each attempt to open an unavailable stream would
            # leave one open.
            self.close()
            raise
        self._opened = time.monotonic()
        #: Whether the stream has been verified to be the stream that was read before.
        self.is_known = at is None
        self.is_strange = False

    def read(self, session: Session, timeout: float) -> Sequence[Entry]:
        self._connection.heartbeat_check(rate=2)
        entries = self._stream.read(BATCH, timeout)
        if self.is_known or self.at is None:
            return entries
        if not entries:
            if time.monotonic() - self._opened > SILENCE:
                self._examine_end()
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
            "unread messages removed from the stream",
            extra={"first_offset": self.at.offset + 1, "last_offset": first.offset - 1},
        )
        with session.begin():
            position.note_gap(session, self.at.offset + 1, first.offset - 1)
        return entries

    def close(self) -> None:
        with suppress(Exception):
            self._connection.collect(socket_timeout=1)

    def _examine_end(self) -> None:
        # The position may be beyond the end of a shorter stream, where the broker waits for
        # messages. The absence of messages alone proves nothing, because the broker may be slow.
        self._opened = time.monotonic()
        reached = end(self._connection, STREAM)
        self.is_strange = self.at is not None and 0 < reached <= self.at.offset


def _held(session: Session) -> bool:
    with session.begin():
        return position.hold(session)


def _errors() -> tuple[type[Exception], ...]:
    connection = Connection(transport="amqps")
    return (*connection.connection_errors, *connection.channel_errors)


def _apply(session: Session, source: _Source, entries: Sequence[Entry]) -> bool:
    """Project a batch or, if this fails, each message individually.

    Returns False if another reader has continued.
    """
    try:
        return _project(session, source, entries)
    except Exception as error:
        if is_passing(error):
            raise
        log.error("batch failed; messages projected individually")
    for entry in entries:
        try:
            done = _project(session, source, [entry])
        except Exception as error:
            if is_passing(error):
                raise
            log.exception("message skipped", extra={"offset": entry.offset})
            done = _skip(session, source, entry, error)
        if not done:
            return False
    return True


def _project(session: Session, source: _Source, entries: Sequence[Entry]) -> bool:
    with session.begin():
        # The figures and the position are written in one transaction; otherwise, a crash could skip
        # the batch or count it twice.
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
