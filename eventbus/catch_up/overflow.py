"""The record of the events that a service's queue has dropped, in that service's database.

The record has two parts. While no event is missing, `settled_offset` follows the stream: every
event below that offset has left the queue. Once the broker reports a drop, `requested_at` is set,
and the other columns show the progress of `eventbus.catch_up.catch_up` in reading the stream again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from prometheus_client.core import Metric
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    SmallInteger,
    Table,
    false,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from eventbus.database.db import Sessions, metadata, transaction
from eventbus.messaging.publisher import CONFIRM_TIMEOUT
from eventbus.telemetry.metrics import gauge

#: The longest time for which a worker may hold a message before the broker requeues it, which is
#: the broker's `consumer_timeout`. A message that was requeued and then dropped had left the queue
#: at most this long before the drop.
HELD = timedelta(minutes=30)

#: The time after a drop until the dropped event is in the stream, or its relay sends it again.
SETTLED = timedelta(seconds=CONFIRM_TIMEOUT + 1)

#: The maximum time for which continuous drops defer reading.
LATEST = timedelta(seconds=60)

overflow = Table(
    "overflow",
    metadata,
    Column(
        "id",
        SmallInteger,
        CheckConstraint("id = 1", name="single"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("emptied_offset", BigInteger, comment="The stream's end when the queue was empty."),
    Column("emptied_at", DateTime(timezone=True), comment="When that was."),
    Column(
        "settled_offset",
        BigInteger,
        comment="Every event below it was handled, waits in a retry tier or is parked.",
    ),
    Column("start_offset", BigInteger, comment="Where the last reading of the stream starts."),
    Column("requested_at", DateTime(timezone=True), comment="Null when nothing is missing."),
    Column("dropped_at", DateTime(timezone=True), comment="When the last drop was reported."),
    Column("position", BigInteger, comment="The next message to read; null before the first."),
    Column("end_offset", BigInteger, comment="Where reading ends."),
    Column("again", Boolean, nullable=False, server_default=false(), comment="Once more after it."),
    Column("progressed_at", DateTime(timezone=True), comment="When reading last went on."),
    Column("finished_at", DateTime(timezone=True)),
    Column("copied", BigInteger, nullable=False, server_default="0", comment="Events, ever."),
    Column(
        "gaps",
        Integer,
        nullable=False,
        server_default="0",
        comment="How often events had left the stream before they were read.",
    ),
)


@dataclass(slots=True)
class Overflow:
    """The record, and the rules by which it changes. All times come from the database's clock."""

    emptied_offset: int | None = None
    emptied_at: datetime | None = None
    settled_offset: int | None = None
    start_offset: int | None = None
    requested_at: datetime | None = None
    dropped_at: datetime | None = None
    position: int | None = None
    end_offset: int | None = None
    again: bool = False
    progressed_at: datetime | None = None
    finished_at: datetime | None = None
    copied: int = 0
    gaps: int = 0

    def needs_observation(self, now: datetime) -> bool:
        """Return whether an observation of an empty queue should be recorded."""
        return self.emptied_at is None or now - self.emptied_at >= HELD

    def observe_empty(self, end_offset: int, now: datetime) -> None:
        """Record that the queue was empty after the stream ended at this offset.

        The previous observation becomes reliable: messages that a worker held at that time have
        been handled or returned since.
        """
        is_caught_up = self.requested_at is None and self.finished_at is not None
        if is_caught_up and self.emptied_at and self.finished_at < self.emptied_at:  # type: ignore[operator]
            # Copies from the last pass have also left the queue.
            self.start_offset = None
        self.settled_offset = self.emptied_offset
        self.emptied_offset, self.emptied_at = end_offset, now

    def request(self, now: datetime) -> None:
        """Record that the queue has dropped at least one message.

        The message may be a copy from the last pass, so the next pass starts no later than at the
        same offset.
        """
        settled = self.settled_offset or 0
        self.start_offset = (
            settled if self.start_offset is None else min(self.start_offset, settled)
        )
        self.dropped_at = now
        if self.requested_at is None:
            self.requested_at = self.progressed_at = now
        elif self.position is not None:
            self.again = True

    def is_ready(self, now: datetime) -> bool:
        """Return whether the stream has the dropped events, or reading has started."""
        if self.requested_at is None or self.dropped_at is None:
            return False
        is_settled = now - self.dropped_at >= SETTLED or now - self.requested_at >= LATEST
        return self.position is not None or is_settled

    def begin(self, end_offset: int, now: datetime) -> None:
        """Start reading, up to this offset."""
        self.position, self.end_offset = self.start_offset or 0, end_offset
        self.again = self.dropped_at is not None and now - self.dropped_at < SETTLED

    def advance(self, position: int, copied: int, now: datetime) -> None:
        """Record that the stream was read up to this offset, and the number of copied events."""
        if position != self.position or copied:
            self.progressed_at = now
        self.position = position
        self.copied += copied
        if position >= (self.end_offset or 0):
            self.position = self.end_offset = None
            if not self.again:
                self.requested_at, self.finished_at = None, now
            self.again = False


def read(session: Session) -> tuple[Overflow, datetime]:
    """Return the record and the current time of the database."""
    return _read(session) or (Overflow(), session.scalars(select(func.now())).one())


@contextmanager
def changed(
    sessions: Sessions, *, skip_locked: bool = False
) -> Iterator[tuple[Session, Overflow, datetime] | None]:
    """Yield the record, locked, and store it when the block ends.

    With `skip_locked`, yield None if another process has locked it.
    """
    with transaction(sessions) as session:
        record = _read(session, lock=True, skip_locked=skip_locked)
        # Read the record again, because another process may have created it in the meantime.
        # Without the record, the caller would acknowledge an unrecorded drop.
        if record is None and not (skip_locked and _exists(session)):
            session.execute(insert(overflow).values(id=1).on_conflict_do_nothing())
            record = _read(session, lock=True, skip_locked=skip_locked)
        if record is None:
            yield None
            return
        yield (session, *record)
        session.execute(update(overflow).values(**asdict(record[0])))


def read_overflow(session: Session) -> Iterator[Metric]:
    """Return the metrics of the record."""
    state, now = read(session)
    is_missing_events = state.requested_at is not None

    def since(moment: datetime | None) -> float:
        return max(0.0, (now - moment).total_seconds()) if is_missing_events and moment else 0.0

    yield gauge(
        "orders_overflow_behind_seconds",
        "Time since the queue dropped events that are not all recovered; 0 if none is missing.",
        since(state.requested_at),
    )
    yield gauge(
        "orders_overflow_stalled_seconds",
        "Time since reading the stream last progressed, while events are missing; else 0.",
        since(state.progressed_at),
    )
    yield gauge(
        "orders_overflow_copied",
        "Events copied from the stream in total.",
        state.copied,
    )
    yield gauge(
        "orders_overflow_gaps",
        "The number of times that events were removed from the stream before they were read.",
        state.gaps,
    )


def _read(
    session: Session, *, lock: bool = False, skip_locked: bool = False
) -> tuple[Overflow, datetime] | None:
    query = select(overflow, func.now().label("now"))
    if lock:
        query = query.with_for_update(skip_locked=skip_locked)
    row = session.execute(query).mappings().one_or_none()
    if row is None:
        return None
    fields = {name: value for name, value in row.items() if name not in ("id", "now")}
    return Overflow(**fields), row["now"]


def _exists(session: Session) -> bool:
    return session.execute(select(overflow.c.id)).one_or_none() is not None
