"""Orders that cannot be delivered, because a count has found less than is reserved."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from eventbus.database.statement import Statement
from inventory_worker.movements import LOOKBACK, Level

# The newest first: who came first is served first.
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
    """How many pieces of a SKU an order holds."""

    order_id: UUID
    pieces: int


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """How many reserved pieces are missing, and the newest orders that hold as many, or more.

    There are more such orders unless it `is_whole`: only the newest of a SKU are looked through.
    """

    level: Level
    orders: Sequence[Holding]
    is_whole: bool

    @property
    def missing(self) -> int:
        """How many pieces are reserved, and not there."""
        return _missing(self.level)


def shortfall(session: Session, level: Level) -> Shortfall | None:
    """Return which orders cannot be delivered from a level; None if all of them can."""
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
