"""How far the stream was read; it is written in the transaction of what was read."""

from typing import Any, NamedTuple

from sqlalchemy import func, insert, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from analytics_worker.models import GapRow, PositionRow
from eventbus.messaging.stream import Entry
from eventbus.messaging.untrusted import storable


class Position(NamedTuple):
    """The last message that is in the projections."""

    offset: int
    message_id: str | None

    @classmethod
    def of(cls, entry: Entry) -> "Position":
        """Return a message's own."""
        message_id = entry.message.properties.get("message_id")
        # What PostgreSQL cannot store would stop the reader at this message.
        return cls(entry.offset, message_id and storable(message_id))


def read(session: Session, *, lock: bool = False) -> Position | None:
    """Return how far the stream was read; None at the beginning.

    With `lock` nobody else goes on before the transaction's end.
    """
    row = session.get(PositionRow, 1, with_for_update=lock, populate_existing=True)
    return Position(row.stream_offset, row.message_id) if row else None


def write(session: Session, position: Position, *, caught_up: bool) -> None:
    """Record how far it is read now, and perhaps that nothing more was there."""
    values: dict[str, Any] = {"stream_offset": position.offset, "message_id": position.message_id}
    if caught_up:
        values |= {"caught_up_at": func.clock_timestamp()}
    row = upsert(PositionRow).values(id=1, **values)
    session.execute(row.on_conflict_do_update(index_elements=["id"], set_=values))


def note_gap(session: Session, first: int, last: int | None) -> None:
    """Record that messages were gone before they were read."""
    session.execute(insert(GapRow).values(first_offset=first, last_offset=last))


def hold(session: Session) -> bool:
    """Keep all other readers away until `release`, or the connection's end; False if one reads."""
    statement = text("SELECT pg_try_advisory_lock(hashtext('stream_position'))")
    return bool(session.scalar(statement))


def release(session: Session) -> None:
    """Let others read."""
    session.execute(text("SELECT pg_advisory_unlock_all()"))
