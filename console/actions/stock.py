"""Shows and changes what is in stock, with the inventory's own rights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy.orm import Session

from common import db
from common.kombu_topology import INVENTORY
from common.settings import DatabaseSettings as ServiceDatabase
from console.errors import ActionError
from console.settings import DatabaseSettings, role_name
from inventory_worker import stock
from inventory_worker.stock import Level


def show(settings: DatabaseSettings, sku: str | None = None) -> list[Level]:
    """Return the level of one SKU or of all; raises `ActionError` for an unknown one."""
    with _transaction(settings) as session:
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
    with _transaction(settings) as session:
        for done in stock.set_on_hand(session, pieces):
            progress(done)


def add(settings: DatabaseSettings, sku: str, pieces: int) -> Level:
    """Add so many pieces of a SKU; returns its new level."""
    with _transaction(settings) as session:
        stock.add(session, sku, pieces)
        (level,) = stock.levels(session, sku)
    return level


@contextmanager
def _transaction(settings: DatabaseSettings) -> Iterator[Session]:
    engine = db.engine(
        ServiceDatabase(
            database_host=settings.database_host,
            database_port=settings.database_port,
            database_name=settings.database_name(INVENTORY.name),
            database_user=role_name(INVENTORY.name),
            database_password=settings.database_password(INVENTORY.name),
            database_ca_file=settings.database_ca_file,
        )
    )
    try:
        with db.transaction(db.sessions(engine)) as session:
            yield session
    finally:
        engine.dispose()
