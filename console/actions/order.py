"""Shows an order and the events that the order service knows of it, with rights to read them."""

from dataclasses import dataclass
from uuid import UUID

from common.kombu_topology import ORDER
from console.service_database import transaction
from console.settings import DatabaseServer
from order_app import service
from order_app.domain import Order
from order_app.timeline import Entry, timeline


@dataclass(frozen=True, kw_only=True)
class Story:
    """An order, and its events in the order of their own times."""

    order: Order
    events: tuple[Entry, ...]


def show(settings: DatabaseServer, order_id: UUID) -> Story:
    """Return an order and its timeline. Raises `UnknownOrder`."""
    with transaction(settings, ORDER) as session:
        return Story(
            order=service.get(session, order_id), events=tuple(timeline(session, order_id))
        )
