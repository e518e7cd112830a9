"""The history of one parked message: its attempts, redrives, edits, discards and handling.

Each source is read by its own function, because one of them may be unavailable.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from common.kombu_topology import CONSOLE
from console.broker.parked_message import Parked
from console.databases.service_database import transaction
from console.models import ItemRow, ItemState, PlanRow
from console.parking import journal, lookup
from console.parking.difference import Change
from console.parking.journal import Entry
from console.settings import DatabaseServer, DiscardSettings, ParkingSettings
from eventbus.consumer.inbox import inbox
from eventbus.telemetry.privacy import masked
from eventbus.topology.service import Service

#: Maximum number of parked messages of the event, and of plans that contain it, that are shown.
LISTED = 100

#: Maximum number of values of an edit that a line contains.
_EDITED_LISTED = 5

#: Number of digits of a body's SHA-256 that distinguish its versions.
_VERSION_DIGITS = 8

#: The sort key of lines without a valid time, which come first.
_FIRST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One occurrence in the history of a message.

    `at` is None if the message contains no valid time. `by` is None if no person caused the
    occurrence. `version` is the start of the body's SHA-256, so an edited copy has a different
    version.
    """

    at: datetime | None
    what: str
    text: str = ""
    by: str | None = None
    version: str | None = None
    #: The difference of an edit, with the values themselves; `text` contains no email address.
    edited: tuple[Change, ...] = ()


def history(settings: ParkingSettings, service: Service, wanted: str) -> list[Line]:
    """Return the history of a message, oldest line first; the message stays in place.

    Redrives with `redrive --all` are not recorded. Entries of operators are kept for
    `journal.KEPT`, plans for `plans.KEPT`. Raises `ActionError` and the errors of the databases.
    """
    return in_order(
        attempts(settings, service, wanted),
        changes(settings, service, wanted),
        handling(settings, service, wanted),
    )


def in_order(*sources: Iterable[Line]) -> list[Line]:
    """Return the lines of several sources, the oldest first."""
    lines = [line for source in sources for line in source]
    return sorted(lines, key=lambda line: line.at or _FIRST)


def attempts(settings: DiscardSettings, service: Service, wanted: str) -> list[Line]:
    """Return the attempts at an event whose messages are parked now, according to their headers.

    At most `LISTED` messages are included. Their headers contain the first and the last attempt
    since the last redrive.
    """
    found = lookup.find(settings, service, wanted, limit=LISTED)
    return [line for content in found.contents for line in _attempts(content.parked)]


def changes(settings: DatabaseServer, service: Service, wanted: str) -> list[Line]:
    """Return the operators' actions on a message: plans, redrives, edits, discards and restores."""
    lines: list[Line] = []
    with transaction(settings, CONSOLE) as session:
        rows = select(ItemRow, PlanRow).join(PlanRow, PlanRow.id == ItemRow.plan_id)
        rows = rows.where(ItemRow.event_id == wanted, PlanRow.service == service.name)
        for item, plan in session.execute(rows.order_by(PlanRow.id.desc()).limit(LISTED)):
            lines += _redrives(item, plan)
        lines += map(_change, journal.of_message(session, service.name, wanted))
    return lines


def handling(settings: DatabaseServer, service: Service, wanted: str) -> list[Line]:
    """Return the handling of an event by its service: one line, or none."""
    try:
        key = UUID(wanted)
    except ValueError:
        return []
    with transaction(settings, service) as session:
        row = session.execute(
            select(inbox.c.handled_at, inbox.c.attempts).where(inbox.c.event_id == key)
        ).one_or_none()
    return [Line(at=row.handled_at, what="handled", text=f"attempt {row.attempts}")] if row else []


def _attempts(parked: Parked) -> Iterator[Line]:
    version = _version(parked.digest)
    if parked.attempts and parked.attempts > 1:
        yield Line(at=parked.first_failure, what="failed", text="attempt 1", version=version)
    reason = f"{parked.exception}: {parked.text}" if parked.exception else parked.text
    details = [f"attempt {parked.attempts}"] if parked.attempts else []
    details += [reason, *([f"release {parked.release}"] if parked.release else [])]
    text = ", ".join(details)
    yield Line(at=parked.last_failure, what="parked", text=text, version=version)


def _redrives(item: ItemRow, plan: PlanRow) -> Iterator[Line]:
    version, name = _version(item.digest), f"plan {plan.id}"
    made = f"{name}: {item.effect}"
    yield Line(at=plan.created_at, what="planned", text=made, by=plan.created_by, version=version)
    if item.redriven_at:
        yield Line(
            at=item.redriven_at, what="redriven", text=name, by=item.redriven_by, version=version
        )
    if item.state not in (ItemState.PLANNED, ItemState.SENT):
        text = f"{name}: {item.note}" if item.note else name
        yield Line(at=item.updated_at, what=item.state, text=text, version=version)


def _change(entry: Entry) -> Line:
    details = entry.details or {}
    edited = tuple(Change(**change) for change in details.get("changes", ()))
    text = "; ".join(filter(None, (entry.text, *_edited(details, edited))))
    return Line(
        at=entry.recorded_at,
        what=entry.change,
        text=text,
        by=entry.recorded_by,
        version=_version(details["before"]) if "before" in details else None,
        edited=edited,
    )


def _edited(details: Mapping[str, Any], edited: Sequence[Change]) -> Iterator[str]:
    if edited:
        yield from (masked(str(change)) for change in edited[:_EDITED_LISTED])
        if (more := len(edited) - _EDITED_LISTED) > 0:
            yield f"{more} more"
        yield f"now version {_version(details['after'])}"
        yield "redriven" if details["redriven"] else "parked again"


def _version(sha256: str) -> str:
    return sha256[:_VERSION_DIGITS]
