"""The inventory's handlers, which reserve, release and ship stock for a batch of orders."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy.orm import Session

from common.events import OrderCancelled, OrderCreatedV2, OrderShipped
from eventbus.consumer.receive import BatchHandler, Handlers
from eventbus.errors import Transient
from eventbus.events.envelope import Event
from eventbus.outbox.table import append
from inventory_worker.decisions import Decisions, wanted
from inventory_worker.domain import Reservation
from inventory_worker.reservations import add_stock, held_skus, lock, lock_stock, write

#: Number of attempts for a batch while other transactions reply to its orders. After their commit,
#: the next attempt reads their reservations.
_ATTEMPTS = 3


def on_orders(session: Session, batch: Sequence[Event]) -> None:
    """Reserve, release and ship the stock of many orders, for any ordering and delay of events.

    The first `order.created` of an order reserves all its lines or none. A cancelled order releases
    its quantities; if it is unknown, a tombstone prevents a later reservation. A shipped order
    lowers the stock once, and is final. Raises `Transient` if another transaction has replied to an
    order of the batch.
    """
    settling = {e.subject for e in batch if not isinstance(e.data, OrderCreatedV2)}
    if not settling:
        if not _decide(session, batch, settling) and len(batch) > 1:
            # The other decisions already deduct the stock that this order would have reserved.
            raise Transient("another transaction has reserved for an order of this batch")
        return
    for _ in range(_ATTEMPTS):
        with session.begin_nested() as savepoint:
            if _decide(session, batch, settling):
                return
            # The rollback also releases the locks, which do not cover the orders of the other
            # transaction.
            savepoint.rollback()
        settling = {event.subject for event in batch}
    raise Transient(f"orders of this batch were changed elsewhere in {_ATTEMPTS} attempts")


def _decide(session: Session, batch: Sequence[Event], settling: set[UUID]) -> bool:
    """Decide on the events and write the result.

    Returns False if another transaction has replied to one of the orders.
    """
    available, known = _locked(session, batch, settling)
    if not all(available.keys() >= reservation.quantities.keys() for reservation in known.values()):
        return False
    decisions = Decisions(available, known)
    for event in batch:
        decisions.take(event)
    if write(session, known, decisions.reservations):
        return False
    for answer in decisions.answers:
        append(session, answer)
    return True


def _locked(
    session: Session, batch: Sequence[Event], settling: set[UUID]
) -> tuple[dict[str, int], Mapping[UUID, Reservation]]:
    """Lock the levels and reservations of a batch; return available quantities and reservations."""
    held = held_skus(session, settling) if settling else {}
    unheld = {
        line.sku
        for event in batch
        if isinstance(event.data, OrderShipped) and event.subject not in held
        for line in event.data.lines
    }
    if unheld:
        add_stock(session, unheld)
    skus = {line.sku for event in batch for line in wanted(event)}.union(*held.values())
    available = lock_stock(session, skus)
    return available, lock(session, settling) if settling else {}


# All types have one handler, so that a batch locks all its rows together and in one order.
HANDLERS: Handlers = dict.fromkeys(
    (OrderCreatedV2, OrderCancelled, OrderShipped), BatchHandler(on_orders)
)
