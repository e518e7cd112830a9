"""What a service's queue has dropped: the record of it, in the service's own database.

The record has two parts. While nothing was dropped, `settled_offset` follows the stream: every
event below that offset has left the queue. Once the broker reports a drop, `requested_at` is set,
and the other columns are the progress of reading the stream again, by
`eventbus.catch_up.catch_up`.
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

#: For how long a worker may keep a message before the broker takes it back: its `consumer_timeout`.
#: A message that was returned to the queue, and then dropped, had left it no longer ago than this.
HELD = timedelta(minutes=30)

#: After a drop, until the dropped event is in the stream, or its relay sends it again.
SETTLED = timedelta(seconds=CONFIRM_TIMEOUT + 1)

#: Drops that do not end do not put off reading for longer.
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
    """The record, and the rules by which it changes. All times are the database's."""

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
        """Whether an empty queue is worth recording."""
        return self.emptied_at is None or now - self.emptied_at >= HELD

    def observe_empty(self, end_offset: int, now: datetime) -> None:
        """Record that the queue was empty after the stream ended at this offset.

        The observation before becomes the one to rely on: what a worker kept then has been handled
        or returned since.
        """
        is_caught_up = self.requested_at is None and self.finished_at is not None
        if is_caught_up and self.emptied_at and self.finished_at < self.emptied_at:  # type: ignore[operator]
            # Copies from the last reading have left the queue, too.
            self.start_offset = None
        self.settled_offset = self.emptied_offset
        self.emptied_offset, self.emptied_at = end_offset, now

    def request(self, now: datetime) -> None:
        """Record that the queue has dropped at least one message.

        It may be a copy from the last reading, so that reading starts no later than that one did.
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
        """Whether the stream can be read: what was dropped is there, or reading has begun."""
        if self.requested_at is None or self.dropped_at is None:
            return False
        settled = now - self.dropped_at >= SETTLED or now - self.requested_at >= LATEST
        return self.position is not None or settled

    def begin(self, end_offset: int, now: datetime) -> None:
        """Start to read, up to this offset."""
        self.position, self.end_offset = self.start_offset or 0, end_offset
        self.again = self.dropped_at is not None and now - self.dropped_at < SETTLED

    def advance(self, position: int, copied: int, now: datetime) -> None:
        """Record that the stream was read up to this offset, and how many events were copied."""
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
    """Return the record and the database's time."""
    return _read(session) or (Overflow(), session.scalars(select(func.now())).one())


@contextmanager
def changed(
    sessions: Sessions, *, skip_locked: bool = False
) -> Iterator[tuple[Session, Overflow, datetime] | None]:
    """Give the block the record, locked, and store it when the block ends.

    With `skip_locked` it is None when another process has it.
    """
    with transaction(sessions) as session:
        found = _read(session, lock=True, skip_locked=skip_locked)
        if found is None and not _exists(session):
            session.execute(insert(overflow).values(id=1).on_conflict_do_nothing())
            found = _read(session, lock=True, skip_locked=skip_locked)
        if found is None:
            yield None
            return
        yield (session, *found)
        session.execute(update(overflow).values(**asdict(found[0])))


def read_overflow(session: Session) -> Iterator[Metric]:
    """Return what the metrics show of the record."""
    state, now = read(session)
    waits = state.requested_at is not None

    def since(moment: datetime | None) -> float:
        return max(0.0, (now - moment).total_seconds()) if waits and moment else 0.0

    yield gauge(
        "orders_overflow_behind_seconds",
        "Since the service's queue dropped events that are not all back; 0 when none is missing.",
        since(state.requested_at),
    )
    yield gauge(
        "orders_overflow_stalled_seconds",
        "Since the last event was taken from the stream, while some are missing.",
        since(state.progressed_at),
    )
    yield gauge(
        "orders_overflow_copied",
        "Events that were taken from the stream, ever.",
        state.copied,
    )
    yield gauge(
        "orders_overflow_gaps",
        "How often events had left the stream before they were taken from it.",
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
