"""Stock levels, movements and the consequences of a change, as printed by `orderctl stock`."""

from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path

from console.actions.stock import Changed
from console.actions.stock_import import Imported
from inventory_worker.movements import Difference, Level, Movement, Note
from inventory_worker.shortfall import Shortfall

#: Maximum number of orders that are listed because they cannot be delivered; further orders are
#: only counted.
_ORDERS = 20


#: The columns of levels and of movements, and the columns that are numbers.
LEVEL_COLUMNS = ("SKU", "on hand", "reserved", "available")
MOVEMENT_COLUMNS = ("at", "movement", "on hand", "reserved", "reference", "reason", "by")
NUMBERS = ("on hand", "reserved", "available")

Cells = tuple[object, ...]


def levels(stock: Sequence[Level]) -> Iterator[Cells]:
    """Yield the row of each level."""
    for level in stock:
        yield level.sku, level.on_hand, level.reserved, level.available


def movements(newest: Sequence[Movement]) -> Iterator[Cells]:
    """Yield the row of each movement."""
    for moved in newest:
        yield (
            f"{moved.moved_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            moved.kind if moved.counted is None else f"{moved.kind} {moved.counted}",
            *(f"{n:+}" if n else "" for n in (moved.on_hand, moved.reserved)),
            *(text or "" for text in (moved.reference, moved.reason, moved.entered_by)),
        )


def changed(done: Changed, note: Note) -> Iterator[str]:
    """Yield lines that report a level after a change, and the consequences."""
    yield _level(done.level)
    if not done.is_new:
        yield f"nothing changed: {note.reference} was entered before"
    if done.level.on_hand < 0:
        on_hand = done.level.on_hand
        yield f"on hand is {on_hand}: more units have left than were recorded; count the SKU"
    if done.shortfall:
        yield from _shortfall(done.shortfall)


def imported(done: Imported, file: Path, note: Note) -> Iterator[str]:
    """Yield lines that report the result of an import, and the consequences."""
    yield f"stock: {done.total} SKUs set from {file}, {done.changed} changed, as {note.reference}"
    if done.short:
        yield f"less on hand than reserved: {_number(done.short, 'SKU')}"
        yield from (f"  {_level(level)}" for level in done.examples)
        if done.short > len(done.examples):
            yield f"  and {done.short - len(done.examples)} more"


def difference(found: Difference) -> str:
    """Return a line that reports a level that is not the sum of its movements."""
    return (
        f"{found.level.sku}: {found.level.on_hand} on hand and {found.level.reserved} reserved, "
        f"but its movements sum to {found.movements.on_hand} and {found.movements.reserved}"
    )


def document(level: Level) -> dict[str, str | int]:
    """Return a level for a JSON document."""
    return {
        "sku": level.sku,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "available": level.available,
    }


def movement(moved: Movement) -> dict[str, str | int | None]:
    """Return a movement for a JSON document."""
    return {
        "at": moved.moved_at.astimezone(UTC).isoformat(),
        "kind": moved.kind,
        "on_hand": moved.on_hand,
        "reserved": moved.reserved,
        "counted": moved.counted,
        "reason": moved.reason,
        "reference": moved.reference,
        "by": moved.entered_by,
    }


def change_document(done: Changed, note: Note) -> dict[str, object]:
    """Return a change and its consequences for a JSON document; `missing` counts units."""
    short = done.shortfall
    return {
        "level": document(done.level),
        "reference": note.reference,
        "is_new": done.is_new,
        "missing": short.missing if short else 0,
        "orders": [
            {"order_id": str(each.order_id), "quantity": each.pieces}
            for each in (short.orders if short else ())
        ],
    }


def import_document(done: Imported) -> dict[str, object]:
    """Return the result of an import for a JSON document; `short` counts SKUs."""
    return {
        "skus": done.total,
        "changed": done.changed,
        "short": done.short,
        "examples": [document(level) for level in done.examples],
    }


def difference_document(found: Difference) -> dict[str, object]:
    """Return a level that is not the sum of its movements for a JSON document."""
    moved = found.movements
    return {
        **document(found.level),
        "movements": {"on_hand": moved.on_hand, "reserved": moved.reserved},
    }


def _level(level: Level) -> str:
    return (
        f"{level.sku}: {level.on_hand} on hand, {level.reserved} reserved, "
        f"{level.available} available"
    )


def _shortfall(found: Shortfall) -> Iterator[str]:
    orders = len(found.orders)
    bound = "" if found.is_whole else "at least "
    yield (
        f"available is {found.level.available}: {_number(found.missing, 'unit')} of {bound}"
        f"{_number(orders, 'order')} cannot be delivered"
    )
    for holding in found.orders[:_ORDERS]:
        yield f"  order {holding.order_id}: {_number(holding.pieces, 'unit')}"
    if orders > _ORDERS:
        yield f"  and {orders - _ORDERS} more"


def _number(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
