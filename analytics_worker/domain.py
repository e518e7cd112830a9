"""An order's contribution to the figures, as pure functions on plain values.

Each figure belongs to the minute in which its orders were placed. An event changes the figures by
the difference between its order's contribution after and before the event: the revenue of a
cancelled order is deducted.
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

#: The reason in an `order.cancelled` that results from missing stock.
OUT_OF_STOCK = "out_of_stock"

#: Figures, by the name of their column.
Figures = Counter[str]


class Outcome(StrEnum):
    """The outcome of an order."""

    OPEN = "OPEN"
    CONFIRMED = "CONFIRMED"
    #: The order is confirmed or shipped.
    SHIPPED = "SHIPPED"
    #: The order is cancelled for lack of stock.
    REJECTED = "REJECTED"
    #: The order is cancelled for another reason.
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The part of an order that the figures need; `decided_at` is the time of its decision."""

    placed_at: datetime
    currency: str
    total: int
    outcome: Outcome = Outcome.OPEN
    decided_at: datetime | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether the order is confirmed or shipped."""
        return self.outcome in (Outcome.CONFIRMED, Outcome.SHIPPED)

    @property
    def minute(self) -> datetime:
        """The minute in which the order was placed."""
        return minute(self.placed_at)


def minute(moment: datetime) -> datetime:
    """Return the start of the minute of this time."""
    return moment.replace(second=0, microsecond=0)


def after(order: Order | None, event: Event) -> Order | None:
    """Return the order after an event, or None if the order is unknown or unchanged."""
    match event.data:
        case OrderCreatedV2(total=total) if order is None:
            return Order(placed_at=event.time, currency=total.currency, total=total.amount)
        case OrderConfirmed() if order:
            # Events arrive in any order: a shipped order stays shipped.
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
    """Return the contribution of an order to its minute."""
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
    """Return the contribution of an order with these lines to each SKU in its minute."""
    by_sku: dict[str, Figures] = {}
    if order is None:
        return by_sku
    confirmed = order.is_confirmed
    for line in lines:
        figures = by_sku.setdefault(line.sku, Figures(placed=1, confirmed=int(confirmed)))
        figures["pieces"] += line.quantity
        figures["revenue"] += line.quantity * _price(line) * confirmed
    return by_sku


def _price(line: Line | PricedLine) -> int:
    return line.unit_price.amount if isinstance(line, PricedLine) else line.unit_price


def less(after: Figures, before: Figures) -> Figures:
    """Return the differences between figures, without figures that are equal."""
    return Figures({k: n for k in {*after, *before} if (n := after[k] - before[k])})
