"""Orders that other services have recorded but the order service no longer has."""

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import select

from common.kombu_topology import INVENTORY, NOTIFICATION, ORDER
from console.databases.service_database import reading
from console.ledger.books import PAGE, RECEIVERS, Books
from console.restore.lost import Named
from eventbus.consumer.inbox import inbox
from inventory_worker.models import Reservation
from notification_worker.models import Notification
from order_app.storage.models import OrderRow

#: The indexed columns with the ids of orders that are kept longer than in the inboxes, by service.
_RECORDS: Mapping[str, Any] = MappingProxyType(
    {INVENTORY.name: Reservation.order_id, NOTIFICATION.name: Notification.order_id}
)


def orphans(books: Books, after: UUID, pause: float) -> dict[str, Named]:
    """Return the orders above the id `after` that do not exist, by the service that has them.

    A service records an order after the order exists. It is read before the order service, so a new
    order is not an orphan.
    """
    found = {}
    for service in RECEIVERS:
        if service is ORDER:
            continue
        orphaned = found[service.name] = Named()
        last = after
        while ids := _page(books, service.name, last):
            known = _known(books, ids)
            orphaned.add([order_id for order_id in ids if order_id not in known])
            last = ids[-1]
            if len(ids) < PAGE:
                break
            time.sleep(pause)
    return found


def _page(books: Books, service: str, after: UUID) -> list[UUID]:
    column = _RECORDS.get(service, inbox.c.subject)
    query = select(column).distinct().where(column > after).order_by(column).limit(PAGE)
    with reading(books.databases[service]) as session:
        return list(session.scalars(query))


def _known(books: Books, ids: list[UUID]) -> set[UUID]:
    with reading(books.databases[ORDER.name]) as session:
        return set(session.scalars(select(OrderRow.id).where(OrderRow.id.in_(ids))))
