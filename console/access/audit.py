"""The audit log: people's actions on orders and messages, and the personal data shown to them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, func, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from console.access.models import AuditRow
from console.errors import ActionError
from eventbus.errors import ExpectedError
from eventbus.messaging.untrusted import storable
from eventbus.settings.base import SettingsError
from eventbus.telemetry.privacy import described, masked

#: Maximum number of lines in a listing.
LIMIT = 1_000

#: Maximum number of characters of each text of a line, so that a request cannot fill the table.
TEXT_LIMIT = 500

#: Maximum number of old lines that are deleted in one transaction.
_DELETED_TOGETHER = 1_000


class Source(StrEnum):
    """The program in which a person acts."""

    CONSOLE = "console"
    ORDERCTL = "orderctl"


class Outcome(StrEnum):
    """The outcome of an action."""

    #: The action has begun. If the request has no later line, the outcome is unknown.
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    #: The action was refused, because the person lacks the right.
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the audit log before it is stored."""

    source: Source
    person: str
    action: str
    service: str | None = None
    subject: str | None = None
    outcome: Outcome
    detail: str | None = None
    revealed: str | None = None
    request_id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, kw_only=True)
class Line(Entry):
    """A stored line; a smaller id is older."""

    id: int
    at: datetime


def write(session: Session, entry: Entry) -> None:
    """Store a line. Addresses in its subject and detail are masked, and long texts are cut."""
    session.add(
        AuditRow(
            source=entry.source,
            person=storable(entry.person)[:TEXT_LIMIT],
            action=entry.action,
            service=_text(entry.service),
            subject=_text(entry.subject),
            outcome=entry.outcome,
            detail=_text(entry.detail),
            revealed=entry.revealed,
            request_id=entry.request_id,
        )
    )


def attempt(store: Callable[[Entry], object], entry: Entry) -> str | None:
    """Store a line; return the reason if the console's database is unavailable, otherwise None.

    The action continues in either case: the console is needed most when a database is down.
    """
    try:
        store(entry)
    except (SQLAlchemyError, ExpectedError, SettingsError) as error:
        return str(error) if isinstance(error, SettingsError) else described(error)
    return None


def newest(
    session: Session,
    *,
    person: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Line]:
    """Return the newest lines that meet all criteria, at most `limit`, newest first.

    `before` is the id of the last line of the previous page. Raises `ActionError` if that line does
    not exist.
    """
    rows: Select[AuditRow] = select(AuditRow)
    if person:
        rows = rows.where(AuditRow.person == storable(person))
    if action:
        rows = rows.where(AuditRow.action == storable(action))
    if since:
        rows = rows.where(AuditRow.at >= since)
    if before is not None:
        last = session.get(AuditRow, before)
        if last is None:
            raise ActionError(f"line {before} of the audit log does not exist")
        rows = rows.where(tuple_(AuditRow.at, AuditRow.id) < (last.at, last.id))
    rows = rows.order_by(AuditRow.at.desc(), AuditRow.id.desc()).limit(min(limit, LIMIT))
    return [_line(row) for row in session.scalars(rows)]


def forget(session: Session, age: timedelta) -> int:
    """Delete a bounded number of the oldest lines beyond an age, and return their number.

    Only the owner of the table has this permission.
    """
    old = select(AuditRow.id).where(AuditRow.at < func.now() - age)
    old = old.order_by(AuditRow.at, AuditRow.id).limit(_DELETED_TOGETHER)
    deleted = session.execute(
        delete(AuditRow).where(AuditRow.id.in_(old)).returning(AuditRow.id),
        execution_options={"synchronize_session": False},
    )
    return len(deleted.all())


def _text(value: str | None) -> str | None:
    return None if value is None else storable(masked(value))[:TEXT_LIMIT]


def _line(row: AuditRow) -> Line:
    return Line(
        id=row.id,
        at=row.at,
        source=Source(row.source),
        person=row.person,
        action=row.action,
        service=row.service,
        subject=row.subject,
        outcome=Outcome(row.outcome),
        detail=row.detail,
        revealed=row.revealed,
        request_id=row.request_id,
    )
