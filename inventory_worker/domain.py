"""The inventory's rules: an order is reserved completely or not at all, and shipped once."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Status(StrEnum):
    """The state of an order's reservation."""

    #: All quantities of the order are reserved.
    RESERVED = "RESERVED"
    #: Nothing was reserved, because a SKU was short.
    REJECTED = "REJECTED"
    #: The order was cancelled, and its quantities were released again.
    RELEASED = "RELEASED"
    #: The goods have left the warehouse. This status is final, regardless of the previous status.
    SHIPPED = "SHIPPED"
    #: The order was cancelled before its `order.created` arrived: this tombstone prevents a
    #: reservation.
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of an order."""

    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The inventory's reply to one order: the quantities that are or were reserved, by SKU.

    `sequence` counts the events published about the order.
    """

    status: Status
    sequence: int = 0
    quantities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one SKU's level."""

    sku: str
    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Shortage:
    """A SKU of which an order requires more than is available."""

    sku: str
    requested: int
    available: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """All lines are available, and these quantities, by SKU, are to be reserved for the order."""

    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A SKU is short, so nothing is reserved for the order. The shortages are sorted by SKU."""

    shortages: tuple[Shortage, ...]


def reserve(available: Mapping[str, int], lines: Iterable[Wanted]) -> Reserved | Rejected:
    """Return the decision on an order, given the available quantity of each SKU.

    Lines with the same SKU are added up. An unknown SKU, or a SKU with more reserved than on hand,
    has 0 available.
    """
    wanted = totals(lines)
    shortages = tuple(
        Shortage(sku, quantity, left)
        for sku, quantity in wanted.items()
        if quantity > (left := max(0, available.get(sku, 0)))
    )
    return Rejected(shortages) if shortages else Reserved(wanted)


def totals(lines: Iterable[Wanted]) -> dict[str, int]:
    """Return the total quantity of each SKU in these lines, sorted by SKU."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    return dict(sorted(total.items()))


#: The effect of each unit of an order with this status on the level of its SKU: (on hand,
#: reserved).
_EFFECTS = {Status.RESERVED: (0, 1), Status.SHIPPED: (-1, 0)}


def cancel(reservation: Reservation | None) -> Reservation:
    """Return the reservation of a cancelled order, whose quantities are released.

    The reservation of an unknown order is CANCELLED. A reservation without quantities is unchanged.
    """
    if reservation is None:
        return Reservation(status=Status.CANCELLED)
    if reservation.status is not Status.RESERVED:
        return reservation
    return replace(reservation, status=Status.RELEASED, sequence=reservation.sequence + 1)


def ship(reservation: Reservation | None, lines: Iterable[Wanted]) -> Reservation:
    """Return the reservation of a shipped order: SHIPPED, regardless of its previous status.

    The shipped quantities are the reserved quantities or, without a reservation, the quantities of
    the lines.
    """
    before = reservation or Reservation(status=Status.CANCELLED)
    quantities = before.quantities or totals(lines)
    return replace(before, status=Status.SHIPPED, quantities=quantities)


def changes(before: Reservation | None, after: Reservation) -> Iterator[Change]:
    """Yield the changes of levels between two states of a reservation."""
    had = _EFFECTS.get(before.status, (0, 0)) if before else (0, 0)
    has = _EFFECTS.get(after.status, (0, 0))
    on_hand, reserved = has[0] - had[0], has[1] - had[1]
    if on_hand or reserved:
        for sku, quantity in after.quantities.items():
            yield Change(sku, on_hand * quantity, reserved * quantity)
