"""The journal: operators' changes to parked messages and to failure groups."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.errors import ActionError, problem
from console.models import JournalRow
from console.settings import DatabaseServer
from eventbus.topology.service import Service

#: Age at which an entry is deleted when another entry is recorded. The difference of an edit may
#: contain a customer's address.
KEPT = timedelta(days=90)

#: Maximum number of old entries that are deleted in one transaction, which is therefore short. The
#: next entry deletes more.
_DELETED_TOGETHER = 1_000

#: Maximum number of entries of one message or group that are shown, from the newest.
LISTED = 100


class Change(StrEnum):
    """The kind of an entry."""

    #: An edited copy is to replace the message.
    EDITED = "edited"
    #: The edited copy was rejected, so the message is unchanged.
    EDIT_FAILED = "edit failed"
    #: The message was redriven without a plan.
    REDRIVEN = "redriven"
    DISCARDED = "discarded"
    RESTORED = "restored"
    #: Later events no longer wait behind the message.
    RELEASED = "released"
    NOTED = "noted"
    ASSIGNED = "assigned"
    MUTED = "muted"
    UNMUTED = "unmuted"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry about a message, by `event_id`, or about a group, by `group_key`.

    `text` is the reason, the note or the owner. `recorded_at` is None before it is recorded.
    """

    service: str
    change: Change
    recorded_by: str
    event_id: str | None = None
    group_key: str | None = None
    text: str | None = None
    details: dict[str, Any] | None = None
    recorded_at: datetime | None = None


def record(session: Session, *entries: Entry) -> None:
    """Append entries, and delete entries older than `KEPT`."""
    old = select(JournalRow.id).where(JournalRow.recorded_at < func.now() - KEPT)
    old = old.order_by(JournalRow.recorded_at).limit(_DELETED_TOGETHER)
    session.execute(delete(JournalRow).where(JournalRow.id.in_(old)))
    session.add_all(
        JournalRow(
            service=entry.service,
            event_id=entry.event_id,
            group_key=entry.group_key,
            change=entry.change,
            text=entry.text,
            details=entry.details,
            recorded_by=entry.recorded_by,
        )
        for entry in entries
    )
    session.flush()


def record_redrives(
    settings: DatabaseServer, service: Service, event_ids: Collection[str], *, by: str
) -> str:
    """Record that messages were redriven without a plan; return the problem, if there is one.

    A redrive does not need the database, so it is recorded afterwards.
    """
    entries = [
        Entry(service=service.name, change=Change.REDRIVEN, recorded_by=by, event_id=event_id)
        for event_id in event_ids
    ]
    try:
        if entries:
            with transaction(settings, CONSOLE) as session:
                record(session, *entries)
    except (ActionError, DBAPIError) as error:
        return f"the history has no record of it: {problem(error)}"
    return ""


def of_message(session: Session, service: str, event_id: str) -> list[Entry]:
    """Return the newest entries about a message, at most `LISTED`, the oldest first."""
    return _newest(session, service, JournalRow.event_id == event_id)


def of_group(session: Session, service: str, key: str) -> list[Entry]:
    """Return the newest entries about a group, at most `LISTED`, the oldest first."""
    return _newest(session, service, JournalRow.group_key == key)


def _newest(session: Session, service: str, subject: ColumnElement[bool]) -> list[Entry]:
    rows = select(JournalRow).where(JournalRow.service == service, subject)
    newest = session.scalars(rows.order_by(JournalRow.id.desc()).limit(LISTED)).all()
    return [_entry(row) for row in reversed(newest)]


def _entry(row: JournalRow) -> Entry:
    return Entry(
        service=row.service,
        change=Change(row.change),
        recorded_by=row.recorded_by,
        event_id=row.event_id,
        group_key=row.group_key,
        text=row.text,
        details=row.details,
        recorded_at=row.recorded_at,
    )
