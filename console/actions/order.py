"""An order with the events that the order service has recorded, and its shipping."""

from dataclasses import dataclass
from uuid import UUID

from common.kombu_topology import ORDER
from console.databases.service_database import transaction
from console.errors import ActionError
from console.settings import DatabaseServer, DatabaseSettings
from order_app import use_cases
from order_app.domain import Order
from order_app.storage.timeline import Entry, timeline


@dataclass(frozen=True, kw_only=True)
class Story:
    """An order, and its events sorted by their times."""

    order: Order
    events: tuple[Entry, ...]


def show(settings: DatabaseServer, order_id: UUID) -> Story:
    """Return an order and its timeline. Raises `UnknownOrder`."""
    with transaction(settings, ORDER) as session:
        return Story(
            order=use_cases.get(session, order_id), events=tuple(timeline(session, order_id))
        )


def ship(settings: DatabaseSettings, order_id: UUID) -> Order:
    """Record that an order's goods have left; an order that was shipped before is unchanged.

    Raises `ActionError` if the order does not exist, or is not CONFIRMED.
    """
    with transaction(settings, ORDER) as session:
        try:
            order = use_cases.ship(session, order_id)
        except use_cases.UnknownOrder:
            raise ActionError(f"order {order_id} does not exist") from None
    if problem := use_cases.why_not_shipped(order):
        raise ActionError(f"order {order_id} was not shipped. {problem}")
    return order
