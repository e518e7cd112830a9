"""What the inventory does when it hears of an order."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import BigInteger, Text, column, select, update, values
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from common import events
from common.consumer import Handlers, SetHandlers
from common.errors import Transient
from common.events import Event, OrderCancelled, OrderCreatedV2, Quantity
from common.kombu_topology import INVENTORY
from common.outbox import append
from inventory_worker.domain import Rejected, Reserved, Wanted, reserve
from inventory_worker.models import Reservation, ReservationLine, Status, Stock
from inventory_worker.reservations import lock_stock, write


def on_order_created(session: Session, event: Event) -> None:
    """Reserve everything that the order wants, or nothing, and tell which.

    An order that was answered or cancelled before changes nothing.
    """
    on_orders_created(session, [event])


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
    lock_stock(session, quantities.keys())
    _add_reserved(session, {sku: -quantity for sku, quantity in quantities.items()})
    data = events.StockReleased(lines=_lines(quantities))
    _answer(session, event, Status.RELEASED, data)


def on_orders_created(session: Session, created: Sequence[Event]) -> None:
    """Reserve for one order after the other, and write all of it at once.

    The orders are decided in memory, while the stock of all their SKUs is locked.
    """
    first: dict[UUID, Event] = {}
    for event in created:
        first.setdefault(event.subject, event)
    lines = {order_id: _wanted(event) for order_id, event in first.items()}
    available = lock_stock(session, {line.sku for wanted in lines.values() for line in wanted})
    outcomes: dict[UUID, Reserved | Rejected] = {}
    for order_id, wanted in lines.items():
        outcome = outcomes[order_id] = reserve(available, wanted)
        if isinstance(outcome, Reserved):
            for sku, quantity in outcome.quantities.items():
                available[sku] -= quantity
    unheard = write(session, outcomes)
    if len(unheard) < len(outcomes) > 1:
        # What was decided counts with what these would have taken: each is to be handled alone.
        raise Transient("an order was answered or cancelled before")
    for order_id in unheard:
        append(session, _event(first[order_id], 1, _answer_of(outcomes[order_id])))


def _first_heard_of(session: Session, order_id: UUID) -> bool:
    # Besides the inbox, which knows events, this knows orders. Of two events of one order in two
    # workers, the second waits here for the first's commit. The row begins as a tombstone.
    row = postgresql.insert(Reservation).values(order_id=order_id, status=Status.CANCELLED)
    inserted = session.execute(row.on_conflict_do_nothing().returning(Reservation.order_id))
    return inserted.first() is not None


def _locked_status(session: Session, order_id: UUID) -> str:
    query = select(Reservation.status).where(Reservation.order_id == order_id)
    return session.scalars(query.with_for_update()).one()


def _add_reserved(session: Session, quantities: Mapping[str, int]) -> None:
    added = values(column("sku", Text), column("quantity", BigInteger), name="added")
    added = added.data(list(quantities.items()))
    session.execute(
        update(Stock)
        .where(Stock.sku == added.c.sku)
        .values(reserved=Stock.reserved + added.c.quantity)
        .execution_options(synchronize_session=False)
    )


def _held(session: Session, order_id: UUID) -> dict[str, int]:
    lines = select(ReservationLine.sku, ReservationLine.quantity).order_by(ReservationLine.sku)
    held = session.execute(lines.where(ReservationLine.order_id == order_id))
    return {line.sku: line.quantity for line in held}


def _lines(quantities: Mapping[str, int]) -> tuple[Quantity, ...]:
    return tuple(Quantity(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


def _wanted(event: Event) -> list[Wanted]:
    assert isinstance(event.data, OrderCreatedV2)  # noqa: S101  # HANDLERS says so
    return [Wanted(line.sku, line.quantity) for line in event.data.lines]


def _answer_of(outcome: Reserved | Rejected) -> events.Data:
    match outcome:
        case Reserved(quantities):
            return events.StockReserved(lines=_lines(quantities))
        case Rejected(shortages):
            told = (
                events.Shortage(sku=s.sku, requested=s.requested, available=s.available)
                for s in shortages
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
    append(session, _event(event, sequence, data))


def _event(cause: Event, sequence: int, data: events.Data) -> Event:
    return Event(
        source=INVENTORY.name,
        subject=cause.subject,
        sequence=sequence,
        traceparent=cause.traceparent,
        causationid=cause.id,
        data=data,
    )


HANDLERS: Handlers = {
    OrderCreatedV2: on_order_created,
    OrderCancelled: on_order_cancelled,
}

SETS: SetHandlers = {OrderCreatedV2: on_orders_created}
