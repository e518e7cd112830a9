"""Stock movements: the entries of operators, and the history of each SKU."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from eventbus.database.statement import Statement, packed
from inventory_worker.models import Kind

#: Maximum number of orders of one SKU, from the newest, whose movements are read. Older orders do
#: not affect the cost.
LOOKBACK = 1_000

_LOCK = Statement(
    "lock_levels",
    """
    SELECT sku, on_hand, reserved FROM stock
    WHERE sku = ANY ($1) ORDER BY sku COLLATE "C" FOR UPDATE
    """,
    "text[]",
)

# This is the only statement that changes a level for an operator. It writes the level and its
# movement together.
_ENTER = Statement(
    "enter_movements",
    """
    WITH entered AS (
        INSERT INTO stock_entries (sku, kind, on_hand, counted, reason, reference, entered_by)
        SELECT sku, kind, on_hand, counted, reason, reference, entered_by
        FROM json_to_recordset($1) AS entry (
            sku text, kind text, on_hand bigint, counted bigint, reason text, reference text,
            entered_by text
        )
        ORDER BY sku COLLATE "C"
        RETURNING sku, on_hand
    )
    UPDATE stock SET on_hand = stock.on_hand + entered.on_hand, updated_at = now()
    FROM entered WHERE stock.sku = entered.sku
    """,
    "json",
)

_NEWEST = Statement(
    "newest_movements",
    """
    SELECT * FROM (
        (
            SELECT kind, on_hand, reserved, counted, entered_at AS moved_at, reason, reference,
                entered_by
            FROM stock_entries WHERE sku = $1 ORDER BY id DESC LIMIT $2
        )
        UNION ALL
        (
            SELECT kind, on_hand, reserved, counted, moved_at, reason, reference, entered_by
            FROM stock_movements
            WHERE sku = $1 AND order_id > coalesce(
                (
                    SELECT order_id FROM reservation_lines WHERE sku = $1
                    ORDER BY order_id DESC OFFSET $3 LIMIT 1
                ),
                '00000000-0000-0000-0000-000000000000'
            )
            ORDER BY moved_at DESC LIMIT $2
        )
    ) AS newest
    ORDER BY moved_at DESC, on_hand LIMIT $2
    """,
    "text",
    "integer",
    "integer",
)

_DIFFERENCES = Statement(
    "level_differences",
    """
    SELECT stock.sku, stock.on_hand, stock.reserved,
        coalesce(moved.on_hand, 0)::bigint AS moved_on_hand,
        coalesce(moved.reserved, 0)::bigint AS moved_reserved
    FROM stock
    LEFT JOIN (
        SELECT sku, sum(on_hand) AS on_hand, sum(reserved) AS reserved
        FROM stock_movements GROUP BY sku
    ) AS moved USING (sku)
    WHERE (stock.on_hand, stock.reserved)
        IS DISTINCT FROM (coalesce(moved.on_hand, 0), coalesce(moved.reserved, 0))
    ORDER BY stock.sku COLLATE "C" LIMIT $1
    """,
    "integer",
)


@dataclass(frozen=True, kw_only=True)
class Level:
    """The units of one SKU that are on hand, and the units reserved for orders."""

    sku: str
    on_hand: int
    reserved: int

    @property
    def available(self) -> int:
        """The units that a new order can reserve. Below 0, not all orders can be delivered."""
        return self.on_hand - self.reserved


@dataclass(frozen=True, kw_only=True)
class Note:
    """The reason and the document of an operator's entry, and the operator's name."""

    reason: str
    reference: str | None = None
    entered_by: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A movement that an operator enters. `counted` is the result of a count."""

    sku: str
    kind: Kind
    on_hand: int
    counted: int | None = None


@dataclass(frozen=True, kw_only=True)
class Movement:
    """A change of a level, with its time and reason. The reference may be an order's id."""

    kind: str
    on_hand: int
    reserved: int
    counted: int | None
    moved_at: datetime
    reason: str | None
    reference: str | None
    entered_by: str | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A level that differs from the sum of its movements."""

    level: Level
    movements: Level


def lock_levels(session: Session, skus: Collection[str]) -> dict[str, Level]:
    """Lock the levels of these SKUs in the common lock order, and return the existing levels."""
    return {
        row.sku: Level(sku=row.sku, on_hand=row.on_hand, reserved=row.reserved)
        for row in _LOCK.run(session, list(skus))
    }


def enter(session: Session, entries: Sequence[Entry], note: Note) -> None:
    """Enter movements of different SKUs, whose levels are locked, and change the levels."""
    rows = (
        {
            "sku": entry.sku,
            "kind": entry.kind,
            "on_hand": entry.on_hand,
            "counted": entry.counted,
            "reason": note.reason,
            "reference": note.reference,
            "entered_by": note.entered_by,
        }
        for entry in entries
    )
    _ENTER.run(session, packed(rows))


def newest(session: Session, sku: str, limit: int) -> list[Movement]:
    """Return the newest movements of a SKU, newest first.

    Movements of orders are limited to the newest `LOOKBACK` orders.
    """
    movements = _NEWEST.run(session, sku, limit, LOOKBACK)
    return [Movement(**row) for row in movements.mappings()]


def differences(session: Session, limit: int) -> list[Difference]:
    """Return the levels that differ from the sums of their movements, by SKU.

    Reads the entire ledger.
    """
    return [
        Difference(
            level=Level(sku=row.sku, on_hand=row.on_hand, reserved=row.reserved),
            movements=Level(sku=row.sku, on_hand=row.moved_on_hand, reserved=row.moved_reserved),
        )
        for row in _DIFFERENCES.run(session, limit)
    ]
