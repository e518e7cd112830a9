"""The rule of the inventory: an order gets everything it asks for, or nothing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """One position of an order."""

    sku: str
    quantity: int


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

    Several lines of one SKU count together. A SKU that nobody knows has nothing available.
    """
    wanted = totals(lines)
    shortages = tuple(
        Shortage(sku, quantity, available.get(sku, 0))
        for sku, quantity in wanted.items()
        if quantity > available.get(sku, 0)
    )
    return Rejected(shortages) if shortages else Reserved(wanted)


def totals(lines: Iterable[Wanted]) -> dict[str, int]:
    """Return how much of each SKU the lines want in all, sorted by SKU."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    return dict(sorted(total.items()))
