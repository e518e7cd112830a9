"""Entries of the warehouse that the inventory's database has lost, according to the audit log.

No event contains them, so they cannot be restored: an operator enters them again.
"""

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import aliased

from common.kombu_topology import CONSOLE, INVENTORY
from console.access.audit import Outcome, Source
from console.access.models import AuditRow
from console.databases.service_database import reading
from console.ledger.books import Books
from inventory_worker.models import Kind, StockEntry, StockImport

#: Maximum number of commands of the audit log that are compared, newest first.
LIMIT = 10_000

#: Number of commands that are looked up in one query.
_TOGETHER = 500

#: Maximum difference between the clocks of the two databases, in seconds.
_SLACK = timedelta(seconds=5)

#: The kind of the entry, by action.
_KINDS = {
    "stock.receive": Kind.RECEIVE,
    "stock.add": Kind.RECEIVE,
    "stock.count": Kind.COUNT,
    "stock.set": Kind.COUNT,
    "stock.correct": Kind.CORRECT,
}
_IMPORT = "stock.import"

#: The pattern of a command's details, as `recording` writes them. A count of 0 units is not
#: written.
_DETAILS = re.compile(
    r"(?:pieces: (?P<pieces>-?\d+))?(?:; )?(?:reason: (?P<reason>.*?))?"
    r"(?:(?:; )?reference: (?P<reference>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Entered:
    """A command that has changed the stock, as the audit log contains it."""

    begun_at: datetime
    done_at: datetime
    person: str
    action: str
    #: The SKU, or the file of an import.
    subject: str
    pieces: int = 0
    reason: str | None = None
    reference: str | None = None

    @classmethod
    def of(cls, row: Any) -> "Entered":
        """Return the command of two lines of the audit log."""
        details = _DETAILS.fullmatch(row.detail or "")
        found = details.groupdict() if details else {}
        return cls(
            begun_at=row.begun_at.astimezone(UTC),
            done_at=row.done_at.astimezone(UTC),
            person=row.person,
            action=row.action,
            subject=row.subject or "",
            pieces=int(found.get("pieces") or 0),
            reason=found.get("reason"),
            reference=found.get("reference"),
        )

    @property
    def command(self) -> str:
        """The command that enters the entry again."""
        words = ["orderctl", *self.action.split("."), self.subject]
        if self.action != _IMPORT:
            words.append(str(self.pieces))
        if self.action not in ("stock.add", "stock.set"):
            words += ["--reason", self.reason] if self.reason else []
            words += ["--reference", self.reference] if self.reference else []
        return shlex.join(words)

    def __str__(self) -> str:
        """Return the command, its person and its time in one line."""
        return f"{self.command}  # {self.person}, {self.begun_at:%Y-%m-%d %H:%M:%S} UTC"

    def document(self) -> dict[str, Any]:
        """Return the command as a JSON document."""
        return {
            "at": self.begun_at.isoformat(),
            "person": self.person,
            "command": self.command,
        }


def lost_entries(books: Books, *, since: datetime | None) -> list[Entered]:
    """Return the commands since a time, if given, whose entries do not exist, the oldest first.

    At most the newest `LIMIT` commands are compared. Raises the errors of the two databases.
    """
    commands = _commands(books, since)
    lost: list[Entered] = []
    while batch := list(islice(commands, _TOGETHER)):
        lost += _absent(books, batch)
    listed: dict[object, Entered] = {}
    for each in sorted(lost, key=lambda entered: entered.begun_at):
        # A document has one effect, regardless of how often it was entered.
        listed.setdefault(each.command if each.reference else each, each)
    return list(listed.values())


def _commands(books: Books, since: datetime | None) -> Iterator[Entered]:
    begun, done = aliased(AuditRow), aliased(AuditRow)
    query = (
        select(
            begun.at.label("begun_at"),
            done.at.label("done_at"),
            *(begun.person, begun.action, begun.subject, begun.detail),
        )
        .join(done, done.request_id == begun.request_id)
        .where(
            begun.source == Source.ORDERCTL,
            begun.outcome == Outcome.BEGUN,
            done.outcome == Outcome.DONE,
            begun.action.in_([*_KINDS, _IMPORT]),
            done.action.in_([*_KINDS, _IMPORT]),
        )
        .order_by(begun.at.desc())
        .limit(LIMIT)
    )
    if since:
        query = query.where(begun.at >= since, done.at >= since)
    with reading(books.databases[CONSOLE.name]) as session:
        return iter([Entered.of(row) for row in session.execute(query)])


def _absent(books: Books, commands: Sequence[Entered]) -> Iterator[Entered]:
    entries = [each for each in commands if each.action != _IMPORT]
    first = min(each.begun_at for each in commands) - _SLACK
    references = [each.reference for each in commands if each.reference]
    with reading(books.databases[INVENTORY.name]) as session:
        stored = session.scalars(
            select(StockEntry).where(
                StockEntry.sku.in_([each.subject for each in entries]),
                (StockEntry.entered_at >= first) | StockEntry.reference.in_(references),
            )
        ).all()
        imports = set(
            session.scalars(
                select(StockImport.reference).where(
                    (StockImport.updated_at >= first) | StockImport.reference.in_(references)
                )
            )
        )
    left = defaultdict[tuple[str, str], list[StockEntry]](list)
    for entry in stored:
        left[entry.sku, entry.kind].append(entry)
    for each in sorted(commands, key=lambda entered: entered.begun_at):
        if each.action == _IMPORT:
            if not _is_imported(each, imports):
                yield each
        elif not _take(each, left[each.subject, _KINDS[each.action]]):
            yield each


def _take(command: Entered, left: list[StockEntry]) -> bool:
    """Return whether a command's entry exists, and remove it: an entry belongs to one command."""
    found = next((entry for entry in left if _matches(command, entry)), None)
    # A repeated command with the same document has had no effect.
    if found and command.reference is None:
        left.remove(found)
    return found is not None


def _matches(command: Entered, entry: StockEntry) -> bool:
    if command.reference is not None:
        return entry.reference == command.reference
    if entry.reference is not None:
        return False
    pieces = entry.counted if entry.kind == Kind.COUNT else entry.on_hand
    is_then = command.begun_at - _SLACK <= entry.entered_at <= command.done_at + _SLACK
    return is_then and pieces == command.pieces and entry.entered_by == command.person


def _is_imported(command: Entered, imports: set[str]) -> bool:
    if command.reference is not None:
        return command.reference in imports
    # Without a document, the command has made a reference from its time.
    first, last = command.begun_at - _SLACK, command.done_at + _SLACK
    return any(
        f"import-{first:%Y%m%dT%H%M%S}" <= each <= f"import-{last:%Y%m%dT%H%M%S}~"
        for each in imports
    )
