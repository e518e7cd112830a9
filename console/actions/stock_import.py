"""Counts many SKUs, chunk by chunk, with the inventory's own rights."""

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

#: Levels below what is reserved that are told; more are only counted.
SHORT_LIMIT = 20

#: Attempts at a chunk that is in the way of another transaction.
_ATTEMPTS = 3

#: A deadlock, a serialization failure, a lock that was not free in time: all passing.
_PASSING = frozenset({"40P01", "40001", "55P03"})


@dataclass(kw_only=True)
class Imported:
    """What an import has done so far."""

    total: int
    done: int = 0
    changed: int = 0
    reached: str = ""
    #: How many levels are below what is reserved, and the first of them.
    short: int = 0
    examples: list[Level] = field(default_factory=list)

    def add(self, chunk: Chunk, counted: Counted) -> None:
        """Take in what one chunk has done."""
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
    """Count each SKU, a chunk at a time, under the note's reference.

    Raises `ActionError`, saying what is done, when a chunk fails; the same import then goes on from
    there. Raises `InvalidStock` when the reference stands for another file.
    """
    result = Imported(total=len(pieces))
    with sessions(settings, INVENTORY) as database, _told(result, note):
        with db.transaction(database) as session:
            stock_import.begin(session, note.reference or "", _digest(pieces))
        for chunk in stock_import.chunks(pieces):
            result.add(chunk, _count(database, chunk, note))
            progress(result.done)
    return result


def _count(database: Sessions, chunk: Chunk, note: Note) -> Counted:
    for left in reversed(range(_ATTEMPTS)):
        try:
            with db.transaction(database) as session:
                return stock_import.count_chunk(session, chunk, note)
        except DBAPIError as error:
            if not left or getattr(error.orig, "pgcode", None) not in _PASSING:
                raise
    raise AssertionError


@contextmanager
def _told(result: Imported, note: Note) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, KeyboardInterrupt) as error:
        cause = first_line(getattr(error, "orig", None) or error)
        done = f"all up to {result.reached}" if result.done else "none"
        raise ActionError(
            f"{result.done} of {result.total} SKUs are counted, {done} in the order of code "
            f"points; --reference {note.reference} goes on from there: {cause}"
        ) from None


def _digest(pieces: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(sorted(pieces.items())).encode()).hexdigest()
