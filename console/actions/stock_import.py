"""Import of a stock count in chunks, with the inventory's own permissions."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from common.kombu_topology import INVENTORY
from console.databases.service_database import sessions
from console.errors import ActionError, first_line
from console.settings import DatabaseSettings
from eventbus.database import db
from eventbus.database.db import Sessions
from inventory_worker import stock_import
from inventory_worker.movements import Level, Note
from inventory_worker.stock_import import Chunk, Counted

#: Maximum number of levels below the reserved quantity that are listed; further levels are only
#: counted.
SHORT_LIMIT = 20

#: Maximum number of attempts at a chunk that conflicts with another transaction.
_ATTEMPTS = 3

#: SQLSTATEs of such a conflict: a deadlock, a serialization failure, a lock timeout.
_TRANSIENT = frozenset({"40P01", "40001", "55P03"})


@dataclass(kw_only=True)
class Imported:
    """The progress of an import, and its result."""

    total: int
    done: int = 0
    changed: int = 0
    reached: str = ""
    #: The number of levels below the reserved quantity, and the first of them.
    short: int = 0
    examples: list[Level] = field(default_factory=list)

    def add(self, chunk: Chunk, counted: Counted) -> None:
        """Add the result of one chunk."""
        self.done += len(chunk.pieces)
        self.reached = chunk.last
        self.changed += counted.changed
        self.short += len(counted.short)
        self.examples += counted.short[: SHORT_LIMIT - len(self.examples)]


def import_pieces(
    settings: DatabaseSettings,
    pieces: Mapping[str, int],
    note: Note,
    *,
    progress: Callable[[int], None] = lambda _done: None,
) -> Imported:
    """Count each SKU, one chunk at a time, under the note's reference.

    Raises `ActionError` with the progress if a chunk fails; the same import then continues from
    there. Raises `InvalidStock` if the reference belongs to another file.
    """
    result = Imported(total=len(pieces))
    with sessions(settings, INVENTORY) as database, _failure_explained(result, note):
        with db.transaction(database) as session:
            stock_import.begin(session, note.reference or "", _digest(pieces))
        for chunk in stock_import.chunks(pieces):
            result.add(chunk, _count(database, chunk, note))
            progress(result.done)
    return result


def _count(database: Sessions, chunk: Chunk, note: Note) -> Counted:
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            with db.transaction(database) as session:
                return stock_import.count_chunk(session, chunk, note)
        except DBAPIError as error:
            if not attempts_left or getattr(error.orig, "pgcode", None) not in _TRANSIENT:
                raise
    raise AssertionError


@contextmanager
def _failure_explained(result: Imported, note: Note) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, KeyboardInterrupt) as error:
        cause = first_line(getattr(error, "orig", None) or error)
        done = f"all up to {result.reached}" if result.done else "none"
        raise ActionError(
            f"{result.done} of {result.total} SKUs were counted, {done} in code point order; "
            f"--reference {note.reference} continues from there: {cause}"
        ) from None


def _digest(pieces: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(sorted(pieces.items())).encode()).hexdigest()
