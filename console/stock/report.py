"""Levels, movements, and what follows from a change, as `orderctl stock` prints them."""

from collections.abc import Iterator, Sequence
from datetime import UTC
from pathlib import Path

from rich.table import Table

from console.actions.stock import Changed
from console.actions.stock_import import Imported
from inventory_worker.movements import Difference, Level, Movement, Note
from inventory_worker.shortfall import Shortfall

#: Orders that cannot be delivered that are listed; more are only counted.
_ORDERS = 20


def levels(found: Sequence[Level]) -> Table:
    """Return levels as a table."""
    table = Table("SKU", box=None)
    for column in ("on hand", "reserved", "available"):
        table.add_column(column, justify="right")
    for level in found:
        table.add_row(
            level.sku, *(str(n) for n in (level.on_hand, level.reserved, level.available))
        )
    return table


def movements(found: Sequence[Movement]) -> Table:
    """Return movements as a table."""
    table = Table("at", "movement", box=None)
    for column in ("on hand", "reserved"):
        table.add_column(column, justify="right")
    for column in ("reference", "reason", "by"):
        table.add_column(column)
    for each in found:
        table.add_row(
            f"{each.moved_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            each.kind if each.counted is None else f"{each.kind} {each.counted}",
            *(f"{n:+}" if n else "" for n in (each.on_hand, each.reserved)),
            *(text or "" for text in (each.reference, each.reason, each.entered_by)),
        )
    return table


def changed(done: Changed, note: Note) -> Iterator[str]:
    """Yield lines that tell of a level after a change, and of what follows."""
    yield _level(done.level)
    if not done.is_new:
        yield f"nothing changed: {note.reference} was entered before"
    if done.level.on_hand < 0:
        yield f"on hand is {done.level.on_hand}: more has left than was counted in; count the SKU"
    if done.shortfall:
        yield from _shortfall(done.shortfall)


def imported(done: Imported, file: Path, note: Note) -> Iterator[str]:
    """Yield lines that tell what an import has done, and of what follows."""
    yield f"stock: {done.total} SKUs set from {file}, {done.changed} changed, as {note.reference}"
    if done.short:
        yield f"less on hand than is reserved: {_number(done.short, 'SKU')}"
        yield from (f"  {_level(level)}" for level in done.examples)
        if done.short > len(done.examples):
            yield f"  and {done.short - len(done.examples)} more"


def difference(found: Difference) -> str:
    """Return a line that tells of a level that is not the sum of its movements."""
    return (
        f"{found.level.sku}: {found.level.on_hand} on hand and {found.level.reserved} reserved, "
        f"movements say {found.movements.on_hand} and {found.movements.reserved}"
    )


def document(level: Level) -> dict[str, str | int]:
    """Return a level for a JSON document."""
    return {
        "sku": level.sku,
        "on_hand": level.on_hand,
        "reserved": level.reserved,
        "available": level.available,
    }


def movement(each: Movement) -> dict[str, str | int | None]:
    """Return a movement for a JSON document."""
    return {
        "at": each.moved_at.astimezone(UTC).isoformat(),
        "kind": each.kind,
        "on_hand": each.on_hand,
        "reserved": each.reserved,
        "counted": each.counted,
        "reason": each.reason,
        "reference": each.reference,
        "by": each.entered_by,
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
        f"available is {found.level.available}: {_number(found.missing, 'piece')} of {bound}"
        f"{_number(orders, 'order')} cannot be delivered"
    )
    for holding in found.orders[:_ORDERS]:
        yield f"  order {holding.order_id}: {_number(holding.pieces, 'piece')}"
    if orders > _ORDERS:
        yield f"  and {orders - _ORDERS} more"


def _number(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"
