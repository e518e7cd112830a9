"""Orders that cannot be delivered because a stock count found less than is reserved."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from eventbus.database.statement import Statement
from inventory_worker.movements import LOOKBACK, Level

# The newest orders come first, because earlier orders are served first.
_HOLDING = Statement(
    "newest_holding",
    """
    SELECT order_id, quantity
    FROM (
        SELECT order_id, quantity FROM reservation_lines
        WHERE sku = $1 ORDER BY order_id DESC LIMIT $2
    ) AS newest
    JOIN reservations USING (order_id)
    WHERE status = 'RESERVED' ORDER BY order_id DESC
    """,
    "text",
    "integer",
)


@dataclass(frozen=True, kw_only=True)
class Holding:
    """The units of a SKU that are reserved for an order."""

    order_id: UUID
    pieces: int


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """The missing reserved units of a SKU, and the newest orders that hold at least as many.

    Unless `is_whole`, more orders are affected, because only the newest orders of a SKU are read.
    """

    level: Level
    orders: Sequence[Holding]
    is_whole: bool

    @property
    def missing(self) -> int:
        """The number of reserved units that are not on hand."""
        return _missing(self.level)


def shortfall(session: Session, level: Level) -> Shortfall | None:
    """Return the orders that cannot be delivered from a level, or None if there are none."""
    missing = _missing(level)
    if not missing:
        return None
    orders = list[Holding]()
    for row in _HOLDING.run(session, level.sku, LOOKBACK):
        if missing <= 0:
            break
        orders.append(Holding(order_id=row.order_id, pieces=row.quantity))
        missing -= row.quantity
    return Shortfall(level=level, orders=orders, is_whole=missing <= 0)


def _missing(level: Level) -> int:
    return max(0, min(level.reserved, -level.available))
