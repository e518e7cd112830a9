"""What the inventory does when it hears of an order."""

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from sqlalchemy import BigInteger, Text, column, insert, select, update, values
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from common import events
from common.consumer import Handlers
from common.events import Event, OrderCancelled, OrderCreated, Quantity
from common.kombu_topology import INVENTORY
from common.outbox import append
from inventory_worker.domain import Rejected, Reserved, Shortage, Wanted, reserve
from inventory_worker.models import Reservation, ReservationLine, Status, Stock


def on_order_created(session: Session, event: Event) -> None:
    """Reserve everything that the order wants, or nothing, and tell which.

    An order that was answered or cancelled before changes nothing.
    """
    assert isinstance(event.data, OrderCreated)  # noqa: S101  # HANDLERS says so
    if not _first_heard_of(session, event.subject):
        return
    lines = [Wanted(line.sku, line.quantity) for line in event.data.lines]
    outcome = reserve(_lock_stock(session, {line.sku for line in lines}), lines)
    match outcome:
        case Reserved(quantities):
            _add_reserved(session, quantities)
            _add_lines(session, event.subject, quantities)
            data = events.StockReserved(lines=_lines(quantities))
            _answer(session, event, Status.RESERVED, data)
        case Rejected(shortages):
            _answer(session, event, Status.REJECTED, _rejection(shortages))


def on_order_cancelled(session: Session, event: Event) -> None:
    """Release what the order holds, and tell it.

    An order that holds nothing changes nothing; one that was never heard of leaves a tombstone,
    so that its late `order.created` reserves nothing.
    """
    if _first_heard_of(session, event.subject):
        return
    if _locked_status(session, event.subject) != Status.RESERVED:
        return
    quantities = _held(session, event.subject)
    _lock_stock(session, quantities.keys())
    _add_reserved(session, {sku: -quantity for sku, quantity in quantities.items()})
    data = events.StockReleased(lines=_lines(quantities))
    _answer(session, event, Status.RELEASED, data)


def _first_heard_of(session: Session, order_id: UUID) -> bool:
    # Besides the inbox, which knows events, this knows orders. Of two events of one order in two
    # workers, the second waits here for the first's commit. The row begins as a tombstone.
    row = postgresql.insert(Reservation).values(order_id=order_id, status=Status.CANCELLED)
    inserted = session.execute(row.on_conflict_do_nothing().returning(Reservation.order_id))
    return inserted.first() is not None


def _locked_status(session: Session, order_id: UUID) -> str:
    query = select(Reservation.status).where(Reservation.order_id == order_id)
    return session.scalars(query.with_for_update()).one()


def _lock_stock(session: Session, skus: Collection[str]) -> dict[str, int]:
    """Lock the stock of these SKUs and return what is available of it."""
    # Everybody locks in the order of the SKU: orders that overlap wait, but never for each other.
    available = (Stock.on_hand - Stock.reserved).label("available")
    stock = select(Stock.sku, available).where(Stock.sku.in_(skus)).order_by(Stock.sku)
    return {row.sku: row.available for row in session.execute(stock.with_for_update())}


def _add_reserved(session: Session, quantities: Mapping[str, int]) -> None:
    added = values(column("sku", Text), column("quantity", BigInteger), name="added")
    added = added.data(list(quantities.items()))
    session.execute(
        update(Stock)
        .where(Stock.sku == added.c.sku)
        .values(reserved=Stock.reserved + added.c.quantity)
        .execution_options(synchronize_session=False)
    )


def _add_lines(session: Session, order_id: UUID, quantities: Mapping[str, int]) -> None:
    lines = [{"order_id": order_id, "sku": s, "quantity": n} for s, n in quantities.items()]
    session.execute(insert(ReservationLine), lines)


def _held(session: Session, order_id: UUID) -> dict[str, int]:
    lines = select(ReservationLine.sku, ReservationLine.quantity).order_by(ReservationLine.sku)
    held = session.execute(lines.where(ReservationLine.order_id == order_id))
    return {line.sku: line.quantity for line in held}


def _lines(quantities: Mapping[str, int]) -> tuple[Quantity, ...]:
    return tuple(Quantity(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def _rejection(shortages: Iterable[Shortage]) -> events.StockRejected:
    told = (
        events.Shortage(sku=s.sku, requested=s.requested, available=s.available) for s in shortages
    )
    return events.StockRejected(reason="out_of_stock", shortages=tuple(told))


def _answer(session: Session, event: Event, status: Status, data: events.Data) -> None:
    sequence = session.scalars(
        update(Reservation)
        .where(Reservation.order_id == event.subject)
        .values(status=status, sequence=Reservation.sequence + 1)
        .returning(Reservation.sequence)
        .execution_options(synchronize_session=False)
    ).one()
    answer = Event(
        source=INVENTORY.name,
        subject=event.subject,
        sequence=sequence,
        traceparent=event.traceparent,
        causationid=event.id,
        data=data,
    )
    append(session, answer)


HANDLERS: Handlers = {
    OrderCreated: on_order_created,
    OrderCancelled: on_order_cancelled,
}
