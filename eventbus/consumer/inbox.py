"""The inbox: the ids of the events that a service has handled, so that each has one effect."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    any_,
    func,
    literal,
    select,
)
from sqlalchemy.orm import Session

from eventbus.database.db import metadata
from eventbus.database.statement import Statement, packed
from eventbus.events.envelope import Event

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

_RECORD = Statement(
    "record_deliveries",
    """
    INSERT INTO inbox (
        event_id, type, source, subject, attempts, traceparent, causationid, occurred_at
    )
    SELECT event_id, type, source, subject, attempts, traceparent, causationid, occurred_at
    FROM json_to_recordset($1) AS row (
        event_id uuid, type text, source text, subject uuid, attempts integer, traceparent text,
        causationid uuid, occurred_at timestamptz
    )
    ORDER BY event_id
    ON CONFLICT DO NOTHING
    RETURNING event_id
    """,
    "json",
)


def first_deliveries(session: Session, deliveries: Iterable[tuple[Event, int]]) -> set[UUID]:
    """Record events with their attempt numbers, and return the ids that were not recorded before.

    This takes one statement. An event that occurs twice has one row. If two workers hold the same
    event, the second waits here for the commit of the first.
    """
    # The insert is sorted by id: overlapping batches wait, but cannot deadlock.
    rows: dict[UUID, dict[str, Any]] = {}
    for event, attempts in deliveries:
        # If two versions of an event occur, the first is handled.
        rows.setdefault(event.id, _row(event, attempts))
    if not rows:
        return set()
    recorded = _RECORD.run(session, packed(rows.values()))
    return set(recorded.scalars())


def already_handled(session: Session, event_ids: Collection[UUID]) -> set[UUID]:
    """Return which of these events the service has handled."""
    if not event_ids:
        return set()
    # The ids are one parameter, because the number of parameters may be limited.
    ids = literal(list(event_ids), ARRAY(Uuid))
    return set(session.scalars(select(inbox.c.event_id).where(inbox.c.event_id == any_(ids))))


def _row(event: Event, attempts: int) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "attempts": attempts,
        "traceparent": event.traceparent,
        "causationid": event.causationid,
        "occurred_at": event.time,
    }
