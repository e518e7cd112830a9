"""The position in the stream, which is written in the transaction of the preceding messages."""

from typing import Any, NamedTuple

from sqlalchemy import func, insert, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from analytics_worker.models import GapRow, PositionRow
from eventbus.messaging.stream import Entry
from eventbus.messaging.untrusted import storable


class Position(NamedTuple):
    """The position of the last message that is in the projections."""

    offset: int
    message_id: str | None

    @classmethod
    def of(cls, entry: Entry) -> "Position":
        """Return the position of a message."""
        message_id = entry.message.properties.get("message_id")
        # An id that PostgreSQL cannot store would stop the reader at this message.
        return cls(entry.offset, message_id and storable(message_id))


def read(session: Session, *, lock: bool = False) -> Position | None:
    """Return the position of the last message read, or None if no message has been read.

    With `lock`, the row is locked until the transaction ends.
    """
    row = session.get(PositionRow, 1, with_for_update=lock, populate_existing=True)
    return Position(row.stream_offset, row.message_id) if row else None


def write(session: Session, position: Position, *, caught_up: bool) -> None:
    """Store the position and, with `caught_up`, the time at which the end was reached."""
    values: dict[str, Any] = {"stream_offset": position.offset, "message_id": position.message_id}
    if caught_up:
        values |= {"caught_up_at": func.clock_timestamp()}
    row = upsert(PositionRow).values(id=1, **values)
    session.execute(row.on_conflict_do_update(index_elements=["id"], set_=values))


def note_gap(session: Session, first: int, last: int | None) -> None:
    """Record that messages left the stream before they were read."""
    session.execute(insert(GapRow).values(first_offset=first, last_offset=last))


def hold(session: Session) -> bool:
    """Exclude other readers until `release` or the end of the connection.

    Returns False if another reader is active.
    """
    statement = text("SELECT pg_try_advisory_lock(hashtext('stream_position'))")
    return bool(session.scalar(statement))


def release(session: Session) -> None:
    """Allow other readers."""
    session.execute(text("SELECT pg_advisory_unlock(hashtext('stream_position'))"))
