"""Poison messages: events that crash their worker every time they are handled.

An event that has been redelivered repeatedly after its worker died is a suspect. A killed worker
leaves no record of the event that it was handling, and the broker counts its death against every
message that the worker had received. Therefore a suspect is handled alone, after a row has recorded
that its handling starts. Only an event that was being handled at each death reaches the limit.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Column, DateTime, Integer, Table, Uuid, delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from eventbus.database.db import Sessions, metadata, transaction
from eventbus.errors import CrashedTooOften

#: The number of deliveries with a lost connection after which an event is a suspect. A single such
#: delivery is normal, because a network failure or a restart of the worker causes it.
SUSPECT_FROM = 2

#: The poison limit: the number of times that the handling of an event may start without completing
#: before the event is parked. Each such start ends with a restart of the worker. The limit is
#: higher than the number of restarts in a row that an operator, or a node short of memory, is
#: likely to cause.
POISON_LIMIT = 10

#: Age at which the row of a suspect that was not redelivered is deleted. The table has few rows, so
#: this deletion needs no index.
MAX_AGE = timedelta(days=30)

suspects = Table(
    "suspects",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("begun", Integer, nullable=False, comment="How often its handling began."),
    Column("begun_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


@contextmanager
def handling(sessions: Sessions, event_id: UUID) -> Iterator[None]:
    """Record durably that the handling of a suspect starts and, at the block's end, that it ended.

    Raises `CrashedTooOften` if the handling has started too often without completing.
    """
    if _begin(sessions, event_id) > POISON_LIMIT:
        raise CrashedTooOften(f"its worker died {POISON_LIMIT} times while handling this event")
    try:
        yield
    finally:
        # If this deletion fails, the row remains. One start too many is then counted if the event
        # becomes a suspect again.
        with suppress(DBAPIError), transaction(sessions) as session:
            session.execute(delete(suspects).where(suspects.c.event_id == event_id))


def _begin(sessions: Sessions, event_id: UUID) -> int:
    row = insert(suspects).values(event_id=event_id, begun=1)
    upsert = row.on_conflict_do_update(
        index_elements=[suspects.c.event_id],
        set_={"begun": suspects.c.begun + 1, "begun_at": func.now()},
    )
    with transaction(sessions) as session:
        session.execute(delete(suspects).where(suspects.c.begun_at < func.now() - MAX_AGE))
        return session.scalar(upsert.returning(suspects.c.begun)) or 0
