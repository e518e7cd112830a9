"""Operators' changes to the stock: receipts, counts and corrections."""

import re

from sqlalchemy import select
from sqlalchemy.orm import Session

from eventbus.errors import ExpectedError
from inventory_worker.models import Kind, Stock, StockEntry
from inventory_worker.movements import Entry, Level, Note, enter, lock_levels
from inventory_worker.reservations import add_stock

#: Maximum number of units of one SKU. A higher number is a typing error. Sums of such numbers stay
#: well within a bigint.
MAX_ON_HAND = 1_000_000_000_000

#: The pattern of SKUs that the orders API accepts. Other SKUs could not be ordered.
_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class InvalidStock(ExpectedError):
    """The value is not valid for the stock."""


def check_sku(sku: str) -> str:
    """Return the SKU. Raises `InvalidStock` if it is not valid."""
    if not _SKU.fullmatch(sku):
        raise InvalidStock(f"sku is {sku!r}: must be 1 to 64 letters, digits, '.', '_' or '-'")
    return sku


def check_on_hand(pieces: int) -> int:
    """Return the quantity. Raises `InvalidStock` if it is out of range."""
    if not 0 <= pieces <= MAX_ON_HAND:
        raise InvalidStock(f"on_hand is {pieces}: must be from 0 to {MAX_ON_HAND}")
    return pieces


def levels(
    session: Session, sku: str | None = None, *, part: str = "", limit: int | None = None
) -> list[Level]:
    """Return the level of one SKU, or of all SKUs that contain `part`, sorted by SKU.

    The result has at most `limit` levels, and is empty for an unknown SKU.
    """
    query = select(Stock.sku, Stock.on_hand, Stock.reserved).order_by(Stock.sku).limit(limit)
    if sku is not None:
        query = query.where(Stock.sku == sku)
    if part:
        query = query.where(Stock.sku.icontains(part, autoescape=True))
    return [Level(sku=s, on_hand=h, reserved=r) for s, h, r in session.execute(query)]


def receive(session: Session, sku: str, pieces: int, note: Note) -> bool:
    """Add received units to the level of a new or existing SKU.

    Returns False if the note's reference was entered before. Raises `InvalidStock` if the level
    would be too high, or if the reference was entered with a different quantity.
    """
    level = _locked(session, sku)
    check_on_hand(pieces)
    return _enter(session, level, Entry(sku=sku, kind=Kind.RECEIVE, on_hand=pieces), note)


def count(session: Session, sku: str, pieces: int, note: Note) -> bool:
    """Set the level of a new or existing SKU to the counted units, even below the reserved units.

    Returns False if the note's reference was entered before. Raises `InvalidStock` if the reference
    has a different quantity.
    """
    level = _locked(session, sku)
    change = check_on_hand(pieces) - level.on_hand
    entry = Entry(sku=sku, kind=Kind.COUNT, on_hand=change, counted=pieces)
    return _enter(session, level, entry, note)


def correct(session: Session, sku: str, change: int, note: Note) -> bool:
    """Raise or lower the level of a SKU by `change` units.

    Returns False if the note's reference was entered before. Raises `InvalidStock` if the level
    would be out of range, or the reference has a different change.
    """
    level = _locked(session, sku)
    return _enter(session, level, Entry(sku=sku, kind=Kind.CORRECT, on_hand=change), note)


def _locked(session: Session, sku: str) -> Level:
    add_stock(session, [check_sku(sku)])
    return lock_levels(session, [sku])[sku]


def _enter(session: Session, level: Level, entry: Entry, note: Note) -> bool:
    if note.reference is not None and _is_entered(session, entry, note.reference):
        return False
    total = level.on_hand + entry.on_hand
    # Goods that are shipped before their receipt is entered leave a negative level, which an entry
    # must be able to raise.
    if total > MAX_ON_HAND or (total < 0 and entry.on_hand < 0):
        raise InvalidStock(f"on_hand would be {total}: must be from 0 to {MAX_ON_HAND}")
    enter(session, [entry], note)
    return True


def _is_entered(session: Session, entry: Entry, reference: str) -> bool:
    before = session.execute(
        select(StockEntry.on_hand, StockEntry.counted).where(
            StockEntry.reference == reference,
            StockEntry.sku == entry.sku,
            StockEntry.kind == entry.kind,
        )
    ).first()
    if before is None:
        return False
    same = before.counted == entry.counted and entry.on_hand == before.on_hand
    if entry.kind is Kind.COUNT:
        same = before.counted == entry.counted
    if not same:
        raise InvalidStock(f"reference {reference!r} has a different {entry.kind} of {entry.sku}")
    return True
