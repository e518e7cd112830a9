"""The inbox: the ids of the events that a service has handled, so that each has one effect."""

from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, Uuid, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.db import metadata
from common.events import Event

inbox = Table(
    "inbox",
    metadata,
    Column("event_id", Uuid, primary_key=True, comment="The dedup key."),
    Column("type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("subject", Uuid, nullable=False),
    Column(
        "attempts",
        Integer,
        nullable=False,
        comment="1 when the first attempt succeeded.",
    ),
    Column("traceparent", Text),
    Column("causationid", Uuid),
    Column(
        "occurred_at",
        DateTime(timezone=True),
        nullable=False,
        comment="The event's own time.",
    ),
    Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("ix_inbox_subject", "subject"),
    Index("ix_inbox_handled_at", "handled_at"),
)


def first_delivery(session: Session, event: Event, *, attempts: int) -> bool:
    """Record the event in the caller's transaction; False if an earlier one has done so.

    Of two workers that hold the same event at once, the second waits here for the first's commit.
    """
    row = insert(inbox).values(
        event_id=event.id,
        type=event.type,
        source=event.source,
        subject=event.subject,
        attempts=attempts,
        traceparent=event.traceparent,
        causationid=event.causationid,
        occurred_at=event.time,
    )
    inserted = session.execute(row.on_conflict_do_nothing().returning(inbox.c.event_id))
    return inserted.first() is not None
