"""The restoration of reservations from the inventory's own replies, as they were decided."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from common.events import StockRejected, StockReleased, StockReserved
from eventbus.events.envelope import Event
from inventory_worker.domain import Reservation, Status
from inventory_worker.reservations import add_stock, held_skus, lock, lock_stock, write


def restore(session: Session, replies: Sequence[Event], _causes: object) -> None:
    """Write the reservations that these replies describe, and change the levels of their SKUs.

    A reservation is restored regardless of the current stock, because the decision about the order
    was based on it. Replies must be in the order of their publication. If the order already has a
    later state, a reply has no effect.
    """
    orders = {reply.subject for reply in replies}
    held = held_skus(session, orders)
    wanted = {sku for reply in replies for sku in _quantities(reply)}
    # The lock order is the same as in the handlers.
    add_stock(session, wanted)
    lock_stock(session, wanted.union(*held.values()))
    known = lock(session, orders)
    restored = dict(known)
    for reply in replies:
        before = restored.get(reply.subject)
        if (after := _after(before, reply)) is not None:
            restored[reply.subject] = after
    write(session, known, restored)


def _after(before: Reservation | None, reply: Event) -> Reservation | None:
    match reply.data:
        case StockReserved() if before is None:
            status = Status.RESERVED
        case StockRejected() if before is None:
            status = Status.REJECTED
        case StockReleased() if before is None or before.status is Status.RESERVED:
            status = Status.RELEASED
        case _:
            return before
    quantities = before.quantities if before else _quantities(reply)
    return Reservation(status=status, sequence=reply.sequence, quantities=quantities)


def _quantities(reply: Event) -> dict[str, int]:
    match reply.data:
        case StockReserved(lines=lines) | StockReleased(lines=lines):
            return {line.sku: line.quantity for line in lines}
        case _:
            return {}
