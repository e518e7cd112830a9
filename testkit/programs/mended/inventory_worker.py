"""The inventory's worker, whose handler fails while the file `$BUG` exists."""

import os
from pathlib import Path

from sqlalchemy.orm import Session

from common.events import OrderCreatedV2
from common.kombu_topology import INVENTORY
from eventbus.events.envelope import Event
from eventbus.settings.service import ServiceSettings
from eventbus.worker.events import make_worker
from inventory_worker import handlers


def on_order_created(session: Session, event: Event) -> None:
    """Handle the event as the inventory does, unless there is a bug."""
    if Path(os.environ["BUG"]).exists():
        raise KeyError("a line without a shelf")
    handlers.on_orders(session, [event])


app = make_worker(
    INVENTORY,
    {**handlers.HANDLERS, OrderCreatedV2: on_order_created},
    ServiceSettings,
    config="celeryconfig.worker",
)
