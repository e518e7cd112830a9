"""Shows and changes what is in stock, with the inventory's own rights."""

from collections.abc import Callable, Mapping

from common.kombu_topology import INVENTORY
from console.errors import ActionError
from console.service_database import transaction
from console.settings import DatabaseServer, DatabaseSettings
from inventory_worker import stock
from inventory_worker.stock import Level


def show(settings: DatabaseServer, sku: str | None = None) -> list[Level]:
    """Return the level of one SKU or of all; raises `ActionError` for an unknown one."""
    with transaction(settings, INVENTORY) as session:
        found = stock.levels(session, sku)
    if sku is not None and not found:
        raise ActionError(f"no SKU {sku!r} in stock")
    return found


def set_on_hand(
    settings: DatabaseSettings,
    pieces: Mapping[str, int],
    *,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """Set what is on hand of each SKU: all of them, or none when one is refused."""
    with transaction(settings, INVENTORY) as session:
        for done in stock.set_on_hand(session, pieces):
            progress(done)


def add(settings: DatabaseSettings, sku: str, pieces: int) -> Level:
    """Add so many pieces of a SKU; returns its new level."""
    with transaction(settings, INVENTORY) as session:
        stock.add(session, sku, pieces)
        (level,) = stock.levels(session, sku)
    return level
