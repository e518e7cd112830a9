"""What the inventory does about orders: it reserves, releases and ships, for many at once."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from common.events import OrderCancelled, OrderCreatedV2, OrderShipped
from eventbus.consumer.receive import BatchHandlers, Handlers
from eventbus.errors import Transient
from eventbus.events.envelope import Event
from eventbus.outbox.table import append
from inventory_worker.decisions import Decisions, wanted
from inventory_worker.domain import Reservation
from inventory_worker.reservations import add_stock, held_skus, lock, lock_stock, write

#: Tries of a batch of which another transaction answers an order: once it has, the order is known.
_ATTEMPTS = 3


def on_order(session: Session, event: Event) -> None:
    """Reserve, release or ship what one order wants."""
    on_orders(session, [event])


def on_orders(session: Session, told: Sequence[Event]) -> None:
    """Reserve, release and ship for many orders, whatever came before and whatever comes late.

    An order is answered once: it gets everything it asks for, or nothing. A cancelled order gives
    back what it holds; one that is not known yet leaves a tombstone, so that its late
    `order.created` reserves nothing. Goods that were shipped leave once, and stay away. Raises
    `Transient` when another transaction has answered one of many orders.
    """
    settling = {e.subject for e in told if not isinstance(e.data, OrderCreatedV2)}
    if not settling:
        if not _decide(session, told, settling) and len(told) > 1:
            # What was decided counts with what that order would have taken.
            raise Transient("an order was answered before")
        return
    for _ in range(_ATTEMPTS):
        with session.begin_nested() as savepoint:
            if _decide(session, told, settling):
                return
            # With it go the locks: those of what another transaction has answered are missing.
            savepoint.rollback()
        settling = {event.subject for event in told}
    raise Transient("orders of this batch are answered elsewhere all the time")


def _decide(session: Session, told: Sequence[Event], settling: set[UUID]) -> bool:
    """Decide on the events and write it; False if an order was answered by another transaction."""
    available, known = _locked(session, told, settling)
    if not all(available.keys() >= each.quantities.keys() for each in known.values()):
        return False
    decisions = Decisions(available, known)
    for event in told:
        decisions.take(event)
    if write(session, known, decisions.reservations):
        return False
    for answer in decisions.answers:
        append(session, answer)
    return True


def _locked(
    session: Session, told: Sequence[Event], settling: set[UUID]
) -> tuple[dict[str, int], Mapping[UUID, Reservation]]:
    """Lock every level and reservation of a batch; return what is available and what is known."""
    held = held_skus(session, settling) if settling else {}
    unheld = {
        line.sku
        for event in told
        if isinstance(event.data, OrderShipped) and event.subject not in held
        for line in event.data.lines
    }
    if unheld:
        add_stock(session, unheld)
    skus = {line.sku for event in told for line in wanted(event)}.union(*held.values())
    available = lock_stock(session, skus)
    return available, lock(session, settling) if settling else {}


HANDLERS: Handlers = {
    OrderCreatedV2: on_order,
    OrderCancelled: on_order,
    OrderShipped: on_order,
}

# One for all: a batch locks what any of its events needs, once and in one order.
BATCH_HANDLERS: BatchHandlers = dict.fromkeys(HANDLERS, on_orders)
