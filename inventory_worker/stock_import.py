"""Import of a stock count of many SKUs from a file, in chunks with short transactions.

An order that requires a SKU waits only for the chunk that contains the SKU. The progress of an
import is stored under its reference: a repeated import continues from there, and does not repeat a
count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from inventory_worker.models import Kind, StockImport
from inventory_worker.movements import Entry, Level, Note, enter, lock_levels
from inventory_worker.reservations import add_stock
from inventory_worker.stock import InvalidStock, check_on_hand, check_sku

#: Maximum number of SKUs in one transaction, so that an order waits for only a few milliseconds.
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A part of a file, sorted by code point, which is the order in which SKUs are locked."""

    pieces: dict[str, int]

    @property
    def last(self) -> str:
        """The last SKU of the chunk."""
        return next(reversed(self.pieces))


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The result of a chunk: the number of changed levels, and the levels that are too low."""

    changed: int
    short: tuple[Level, ...]


def chunks(pieces: Mapping[str, int]) -> Iterator[Chunk]:
    """Yield the content of a file in chunks. Raises `InvalidStock` if any value is invalid."""
    for sku, on_hand in pieces.items():
        check_sku(sku)
        check_on_hand(on_hand)
    rest = iter(sorted(pieces.items()))
    while batch := dict(islice(rest, CHUNK)):
        yield Chunk(pieces=batch)


def begin(session: Session, reference: str, digest: str) -> str:
    """Return the last SKU that an import with this reference has counted, or "" if it is new.

    Raises `InvalidStock` if the reference belongs to another file.
    """
    row = insert(StockImport).values(reference=reference, digest=digest)
    session.execute(row.on_conflict_do_nothing())
    known = session.get_one(StockImport, reference)
    if known.digest != digest:
        raise InvalidStock(f"reference {reference!r} belongs to the import of another file")
    return known.reached


def count_chunk(session: Session, chunk: Chunk, note: Note) -> Counted:
    """Count a chunk of the import that has the note's reference, unless it was counted before.

    A level that equals the counted units gets no movement.
    """
    progress = session.scalars(
        select(StockImport).where(StockImport.reference == note.reference).with_for_update()
    ).one()
    if progress.reached >= chunk.last:
        return Counted(changed=0, short=())
    add_stock(session, chunk.pieces)
    levels = lock_levels(session, chunk.pieces)
    entries = [
        Entry(sku=sku, kind=Kind.COUNT, on_hand=pieces - levels[sku].on_hand, counted=pieces)
        for sku, pieces in chunk.pieces.items()
        if pieces != levels[sku].on_hand
    ]
    if entries:
        enter(session, entries, note)
    progress.reached = chunk.last
    counted = (
        Level(sku=sku, on_hand=pieces, reserved=levels[sku].reserved)
        for sku, pieces in chunk.pieces.items()
    )
    short = tuple(level for level in counted if level.available < 0)
    return Counted(changed=len(entries), short=short)
