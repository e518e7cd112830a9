"""The triage of failure groups: notes, an owner, and a mute for a limited time.

They are kept when the group's messages are gone, and when the group returns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.errors import ActionError
from console.models import FailureGroupRow
from console.operator_text import checked
from console.parking import journal
from console.parking.journal import Change, Entry
from console.parking.memory import Memory
from console.settings import DatabaseServer
from eventbus.messaging import untrusted
from eventbus.topology.service import Service

#: Maximum number of characters of a note, and of the name of an owner.
NOTE_LIMIT, OWNER_LIMIT = 2_000, 100

#: The default and the maximum duration of a mute. A mute without an end would be forgotten.
MUTED, LONGEST_MUTE = timedelta(days=7), timedelta(days=90)


@dataclass(frozen=True, kw_only=True)
class Triage:
    """A failure group with its newest journal entries, the oldest first."""

    memory: Memory
    entries: tuple[Entry, ...]


def show(settings: DatabaseServer, service: Service, key: str) -> Triage:
    """Return a group with its journal. Raises `ActionError` if it is not remembered."""
    with transaction(settings, CONSOLE) as session:
        row, now = _find(session, service, key)
        entries = journal.of_group(session, service.name, key)
        return Triage(memory=Memory.of(row, now), entries=tuple(entries))


def note(settings: DatabaseServer, service: Service, key: str, note: str, *, by: str) -> Memory:
    """Set the note of a group; the journal keeps the earlier notes.

    Raises `ActionError` if the group is not remembered, or for an empty note or a note of more than
    `NOTE_LIMIT` characters.
    """
    text = checked("note", note, NOTE_LIMIT)

    def change(row: FailureGroupRow, now: datetime) -> Entry:
        row.note, row.noted_by, row.noted_at = text, by, now
        return _entry(row, Change.NOTED, by, text)

    return _change(settings, service, key, change)


def assign(
    settings: DatabaseServer, service: Service, key: str, owner: str | None, *, by: str
) -> Memory:
    """Set the owner of a group; None removes the owner.

    Raises `ActionError` if the group is not remembered, or for an empty name or a name of more than
    `OWNER_LIMIT` characters.
    """
    name = None if owner is None else checked("owner", owner, OWNER_LIMIT)

    def change(row: FailureGroupRow, _now: datetime) -> Entry:
        row.owner = name
        return _entry(row, Change.ASSIGNED, by, name)

    return _change(settings, service, key, change)


def mute(
    settings: DatabaseServer,
    service: Service,
    key: str,
    duration: timedelta = MUTED,
    *,
    by: str,
    reason: str | None = None,
) -> Memory:
    """List a group after all other groups for this time, without changing its counts.

    Raises `ActionError` if the group is not remembered, or for a duration above `LONGEST_MUTE`.
    """
    if not timedelta(0) < duration <= LONGEST_MUTE:
        raise ActionError(f"mute: the duration must be at most {LONGEST_MUTE.days} days")
    text = checked("reason", reason) if reason else None

    def change(row: FailureGroupRow, now: datetime) -> Entry:
        row.muted_until, row.muted_by = now + duration, by
        until = f"until {row.muted_until:%Y-%m-%d %H:%M}"
        return _entry(row, Change.MUTED, by, f"{until}: {text}" if text else until)

    return _change(settings, service, key, change)


def unmute(settings: DatabaseServer, service: Service, key: str, *, by: str) -> Memory:
    """End the mute of a group. Raises `ActionError` if the group is not remembered."""

    def change(row: FailureGroupRow, _now: datetime) -> Entry:
        row.muted_until = row.muted_by = None
        return _entry(row, Change.UNMUTED, by)

    return _change(settings, service, key, change)


def _change(
    settings: DatabaseServer,
    service: Service,
    key: str,
    change: Callable[[FailureGroupRow, datetime], Entry],
) -> Memory:
    with transaction(settings, CONSOLE) as session:
        row, now = _find(session, service, key, lock=True)
        journal.record(session, change(row, now))
        return Memory.of(row, now)


def _find(
    session: Session, service: Service, key: str, *, lock: bool = False
) -> tuple[FailureGroupRow, datetime]:
    row = session.get(FailureGroupRow, (service.name, key), with_for_update=lock)
    if row is None:
        raise ActionError(
            f"group {untrusted.text(key)} of {service.name} is not known;"
            " see: orderctl parked groups"
        )
    return row, session.scalars(select(func.now())).one()


def _entry(row: FailureGroupRow, change: Change, by: str, content: str | None = None) -> Entry:
    return Entry(
        service=row.service, change=change, recorded_by=by, group_key=row.key, text=content
    )
