"""The rules of the inventory: an order gets all it asks for, or nothing; goods leave once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Status(StrEnum):
    """What became of an order's reservation."""

    #: Everything it asked for is held for it.
    RESERVED = "RESERVED"
    #: Nothing was ever held: some SKU was short.
    REJECTED = "REJECTED"
    #: It was held, then the order was cancelled.
    RELEASED = "RELEASED"
    #: The goods have left the warehouse. Final, whatever the status was before.
    SHIPPED = "SHIPPED"
    #: The order was cancelled before it was heard of; this tombstone keeps it from reserving.
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One position of an order."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The inventory's answer to one order: what it holds, or has held, by SKU.

    `sequence` counts the events published about the order.
    """

    status: Status
    sequence: int = 0
    quantities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """By how much the level of a SKU rises or falls."""

    sku: str
    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """A SKU of which less is available than the order wants in all."""

    sku: str
    requested: int
    available: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Everything is there: these quantities, by SKU, are to be held for the order."""

    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rejected:
    """Something is short, so nothing is held; the shortages are sorted by SKU."""

    shortages: tuple[Shortage, ...]


def reserve(available: Mapping[str, int], lines: Iterable[Wanted]) -> Reserved | Rejected:
    """Decide on an order, given what is available of each SKU.

    Several lines of one SKU count together. An unknown SKU has nothing available, and so has one of
    which more is reserved than a count has found.
    """
    wanted = totals(lines)
    shortages = tuple(
        Shortage(sku, quantity, left)
        for sku, quantity in wanted.items()
        if quantity > (left := max(0, available.get(sku, 0)))
    )
    return Rejected(shortages) if shortages else Reserved(wanted)


def totals(lines: Iterable[Wanted]) -> dict[str, int]:
    """Return how much of each SKU the lines want in all, sorted by SKU."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    return dict(sorted(total.items()))


#: What an order of this status does to the level of each of its SKUs, by piece: on hand, reserved.
_EFFECTS = {Status.RESERVED: (0, 1), Status.SHIPPED: (-1, 0)}


def cancel(reservation: Reservation | None) -> Reservation:
    """Return the reservation of a cancelled order: what it holds is released.

    An order that is not known yet is CANCELLED; one that holds nothing is unchanged.
    """
    if reservation is None:
        return Reservation(status=Status.CANCELLED)
    if reservation.status is not Status.RESERVED:
        return reservation
    return replace(reservation, status=Status.RELEASED, sequence=reservation.sequence + 1)


def ship(reservation: Reservation | None, lines: Iterable[Wanted]) -> Reservation:
    """Return the reservation of an order whose goods have left: SHIPPED, whatever it was before.

    An order that has held something gives just that; another one, what its lines say.
    """
    before = reservation or Reservation(status=Status.CANCELLED)
    quantities = before.quantities or totals(lines)
    return replace(before, status=Status.SHIPPED, quantities=quantities)


def changes(before: Reservation | None, after: Reservation) -> Iterator[Change]:
    """Yield how the levels change when a reservation becomes another one."""
    had = _EFFECTS.get(before.status, (0, 0)) if before else (0, 0)
    has = _EFFECTS.get(after.status, (0, 0))
    on_hand, reserved = has[0] - had[0], has[1] - had[1]
    if on_hand or reserved:
        for sku, quantity in after.quantities.items():
            yield Change(sku, on_hand * quantity, reserved * quantity)
