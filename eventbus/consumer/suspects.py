"""Suspects: events that were delivered again and again because their worker died each time.

A worker that is killed as a whole leaves no trace of the event that it was handling, and the broker
counts the death for every message that the worker had received. So before a suspect is handled,
alone, a row records that its handling has begun. Only an event that is at work at each death
reaches the limit; the other received events do not.
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

#: Deliveries that ended with their connection, after which an event is handled as a suspect. One
#: is what a lost connection or a restart of the worker leaves behind.
SUSPECT_FROM = 2

#: Times that the handling of one event may begin without an end before the event is parked. Above
#: what an operator or a node that is short of memory causes; each takes a restart of the worker.
BEGIN_LIMIT = 10

#: How long a row is kept whose event did not come back. There are few: the table needs no index.
KEPT = timedelta(days=30)

suspects = Table(
    "suspects",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("begun", Integer, nullable=False, comment="How often its handling began."),
    Column("begun_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


@contextmanager
def handling(sessions: Sessions, event_id: UUID) -> Iterator[None]:
    """Record, durably, that the handling of a suspect begins, and at the block's end that it ended.

    Raises `CrashedTooOften` when it has begun too often without an end.
    """
    if _begin(sessions, event_id) > BEGIN_LIMIT:
        raise CrashedTooOften(f"its worker died {BEGIN_LIMIT} times while it handled this event")
    try:
        yield
    finally:
        # A row that stays counts a death too many, should the event ever be a suspect again.
        with suppress(DBAPIError), transaction(sessions) as session:
            session.execute(delete(suspects).where(suspects.c.event_id == event_id))


def _begin(sessions: Sessions, event_id: UUID) -> int:
    row = insert(suspects).values(event_id=event_id, begun=1)
    counted = row.on_conflict_do_update(
        index_elements=[suspects.c.event_id],
        set_={"begun": suspects.c.begun + 1, "begun_at": func.now()},
    )
    with transaction(sessions) as session:
        session.execute(delete(suspects).where(suspects.c.begun_at < func.now() - KEPT))
        return session.scalar(counted.returning(suspects.c.begun)) or 0
