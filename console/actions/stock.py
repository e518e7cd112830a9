"""Stock levels and their changes, with the inventory's own permissions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from common.kombu_topology import INVENTORY
from console.databases.service_database import transaction
from console.errors import ActionError
from console.settings import DatabaseServer, DatabaseSettings
from inventory_worker import movements, shortfall, stock
from inventory_worker.movements import Difference, Level, Movement, Note
from inventory_worker.shortfall import Shortfall

#: An operator's change of one SKU: `stock.receive`, `stock.count` or `stock.correct`.
Change = Callable[[Session, str, int, Note], bool]


@dataclass(frozen=True, kw_only=True)
class Changed:
    """The level after a change, and its shortfall.

    `is_new` is False if the change's reference was entered before.
    """

    level: Level
    shortfall: Shortfall | None
    is_new: bool


def show(settings: DatabaseServer, sku: str | None = None) -> list[Level]:
    """Return the level of one SKU or of all SKUs. Raises `ActionError` for an unknown SKU."""
    with transaction(settings, INVENTORY) as session:
        levels = stock.levels(session, sku)
    if sku is not None and not levels:
        raise ActionError(f"SKU {sku!r} does not exist")
    return levels


def search(settings: DatabaseServer, part: str, limit: int) -> list[Level]:
    """Return the levels of up to `limit` SKUs that contain this part."""
    with transaction(settings, INVENTORY) as session:
        return stock.levels(session, part=part, limit=limit)


def change(settings: DatabaseSettings, kind: Change, sku: str, pieces: int, note: Note) -> Changed:
    """Receive, count or correct one SKU. Raises `InvalidStock`."""
    with transaction(settings, INVENTORY) as session:
        is_new = kind(session, sku, pieces, note)
        (level,) = stock.levels(session, sku)
        return Changed(level=level, shortfall=shortfall.shortfall(session, level), is_new=is_new)


def moved(settings: DatabaseServer, sku: str, limit: int) -> Sequence[Movement]:
    """Return the newest movements of a SKU. Raises `ActionError` for an unknown SKU."""
    with transaction(settings, INVENTORY) as session:
        if not stock.levels(session, sku):
            raise ActionError(f"SKU {sku!r} does not exist")
        return movements.newest(session, sku, limit)


def differences(settings: DatabaseServer, limit: int) -> Sequence[Difference]:
    """Return the levels that differ from the sum of their movements, reading all movements."""
    with transaction(settings, INVENTORY) as session:
        return movements.differences(session, limit)
