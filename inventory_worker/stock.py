"""What operators do to the stock."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.errors import OrderSystemError
from inventory_worker.models import Stock

#: Pieces of one SKU; more is a typing error. Sums of it stay far inside a bigint.
MAX_ON_HAND = 1_000_000_000_000

#: What the orders API takes as a SKU: nobody could order another.
_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Rows in one statement: few round trips, and none near the statement timeout.
_BATCH = 1_000


class InvalidStock(OrderSystemError):
    """The stock cannot be so."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """How much there is of one SKU, and how much of that is reserved for orders."""

    sku: str
    on_hand: int
    reserved: int

    @property
    def available(self) -> int:
        """How much of it an order can still have."""
        return self.on_hand - self.reserved


def check_sku(sku: str) -> str:
    """Return the SKU; raises `InvalidStock` if it cannot be one."""
    if not _SKU.fullmatch(sku):
        raise InvalidStock(f"sku is {sku!r}: must be 1 to 64 letters, digits, '.', '_' or '-'")
    return sku


def check_on_hand(pieces: int) -> int:
    """Return the quantity; raises `InvalidStock` if a SKU cannot have so many."""
    if not 0 <= pieces <= MAX_ON_HAND:
        raise InvalidStock(f"on_hand is {pieces}: must be from 0 to {MAX_ON_HAND}")
    return pieces


def levels(session: Session, sku: str | None = None) -> list[Level]:
    """Return the level of one SKU or of all, sorted by SKU; none for an unknown one."""
    query = select(Stock).order_by(Stock.sku)
    if sku is not None:
        query = query.where(Stock.sku == sku)
    return [
        Level(sku=row.sku, on_hand=row.on_hand, reserved=row.reserved)
        for row in session.scalars(query)
    ]


def set_on_hand(session: Session, pieces: Mapping[str, int]) -> Iterator[int]:
    """Set what is on hand of each SKU, new or known; yields how many are done, batch by batch.

    Raises `InvalidStock`, naming a SKU of which more is reserved than would be on hand.
    """
    done = 0
    # In the order of the SKU, as orders lock them: neither can make the other wait for ever.
    for batch in _batches(sorted(pieces.items())):
        _set_batch(session, batch)
        done += len(batch)
        yield done


def add(session: Session, sku: str, pieces: int) -> None:
    """Add so many pieces to what is on hand of a SKU, new or known.

    Raises `InvalidStock` when that makes too many.
    """
    row = insert(Stock).values(sku=check_sku(sku), on_hand=check_on_hand(pieces))
    total = session.scalar(
        row.on_conflict_do_update(
            index_elements=[Stock.sku],
            set_={"on_hand": Stock.on_hand + row.excluded.on_hand, "updated_at": func.now()},
        ).returning(Stock.on_hand)
    )
    check_on_hand(total or 0)


def _set_batch(session: Session, batch: Mapping[str, int]) -> None:
    values = [
        {"sku": check_sku(sku), "on_hand": check_on_hand(pieces)} for sku, pieces in batch.items()
    ]
    row = insert(Stock).values(values)
    done = session.scalars(
        row.on_conflict_do_update(
            index_elements=[Stock.sku],
            set_={"on_hand": row.excluded.on_hand, "updated_at": func.now()},
            where=Stock.reserved <= row.excluded.on_hand,
        ).returning(Stock.sku)
    )
    for sku in sorted(set(batch) - set(done)):
        (level,) = levels(session, sku)
        raise InvalidStock(
            f"{sku}: on_hand cannot be {batch[sku]}, {level.reserved} are reserved for orders"
        )


def _batches(items: Iterable[tuple[str, int]]) -> Iterator[dict[str, int]]:
    iterator = iter(items)
    while batch := dict(islice(iterator, _BATCH)):
        yield batch
