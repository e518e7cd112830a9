"""What an order adds to the figures: pure functions on plain values.

Each figure belongs to the minute in which its orders were placed. An event changes the figures by
what its order adds after it, less what it added before: so a cancelled order's revenue goes again.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from common.events import (
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderCreatedV2,
    OrderShipped,
    PricedLine,
)
from eventbus.events.envelope import Event

#: Of an `order.cancelled` that the stock decided.
OUT_OF_STOCK = "out_of_stock"

#: The columns of a figure, by their names.
Figures = Counter[str]


class Outcome(StrEnum):
    """What became of an order."""

    OPEN = "OPEN"
    CONFIRMED = "CONFIRMED"
    #: Confirmed, and the goods have left.
    SHIPPED = "SHIPPED"
    #: The stock did not suffice.
    REJECTED = "REJECTED"
    #: Off for another reason.
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as far as the figures need it; `decided_at` is when the shop said yes or no."""

    placed_at: datetime
    currency: str
    total: int
    outcome: Outcome = Outcome.OPEN
    decided_at: datetime | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether the shop delivers, or has delivered, it."""
        return self.outcome in (Outcome.CONFIRMED, Outcome.SHIPPED)

    @property
    def minute(self) -> datetime:
        """The minute in which it was placed."""
        return minute(self.placed_at)


def minute(moment: datetime) -> datetime:
    """Return the beginning of a moment's minute."""
    return moment.replace(second=0, microsecond=0)


def after(order: Order | None, event: Event) -> Order | None:
    """Return the order after an event about it; None if the order is not known, or not changed."""
    match event.data:
        case OrderCreatedV2(total=total) if order is None:
            return Order(placed_at=event.time, currency=total.currency, total=total.amount)
        case OrderConfirmed() if order:
            # A service reads in any order: what has left stays so.
            is_shipped = order.outcome is Outcome.SHIPPED
            outcome = Outcome.SHIPPED if is_shipped else Outcome.CONFIRMED
            return replace(order, outcome=outcome, decided_at=event.time)
        case OrderShipped() if order:
            return replace(order, outcome=Outcome.SHIPPED)
        case OrderCancelled(reason=reason) if order and reason == OUT_OF_STOCK:
            return replace(order, outcome=Outcome.REJECTED, decided_at=event.time)
        case OrderCancelled() if order:
            return replace(order, outcome=Outcome.CANCELLED)
    return None


def of_order(order: Order | None) -> Figures:
    """Return what an order adds to its minute."""
    if order is None:
        return Figures()
    confirmed = order.is_confirmed
    waited = (order.decided_at or order.placed_at) - order.placed_at
    return Figures(
        placed=1,
        placed_total=order.total,
        confirmed=int(confirmed),
        shipped=int(order.outcome is Outcome.SHIPPED),
        revenue=order.total * confirmed,
        rejected=int(order.outcome is Outcome.REJECTED),
        cancelled=int(order.outcome is Outcome.CANCELLED),
        decided=int(order.decided_at is not None),
        decision_microseconds=waited // timedelta(microseconds=1),
    )


def of_lines(order: Order | None, lines: Sequence[Line | PricedLine]) -> Mapping[str, Figures]:
    """Return what an order with these lines adds to each SKU in its minute."""
    found: dict[str, Figures] = {}
    if order is None:
        return found
    confirmed = order.is_confirmed
    for line in lines:
        figures = found.setdefault(line.sku, Figures(placed=1, confirmed=int(confirmed)))
        figures["pieces"] += line.quantity
        figures["revenue"] += line.quantity * _price(line) * confirmed
    return found


def _price(line: Line | PricedLine) -> int:
    return line.unit_price.amount if isinstance(line, PricedLine) else line.unit_price


def less(after: Figures, before: Figures) -> Figures:
    """Return by how much the figures have changed; what has not is left out."""
    return Figures({k: n for k in {*after, *before} if (n := after[k] - before[k])})
