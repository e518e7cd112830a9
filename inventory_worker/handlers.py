"""What the inventory does when it hears of an order."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import BigInteger, Text, column, insert, select, update, values
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from common import events
from common.consumer import Handlers, SetHandlers
from common.errors import Transient
from common.events import Event, OrderCancelled, OrderCreated, Quantity
from common.kombu_topology import INVENTORY
from common.outbox import append
from inventory_worker.domain import Rejected, Reserved, Wanted, reserve
from inventory_worker.models import Reservation, ReservationLine, Status, Stock


def on_order_created(session: Session, event: Event) -> None:
    """Reserve everything that the order wants, or nothing, and tell which.

    An order that was answered or cancelled before changes nothing.
    """
    if not _first_heard_of(session, event.subject):
        return
    lines = _wanted(event)
    outcome = reserve(_lock_stock(session, {line.sku for line in lines}), lines)
    if isinstance(outcome, Reserved):
        _add_reserved(session, outcome.quantities)
        _add_lines(session, event.subject, outcome.quantities)
    _answer(session, event, _status_of(outcome), _answer_of(outcome))


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


def on_orders_created(session: Session, created: Sequence[Event]) -> None:
    """Do what `on_order_created` does, for one order after the other, with one write for all.

    The orders are decided in memory, while the stock of all their SKUs is locked.
    """
    unheard = _unheard_of(session, created)
    if not unheard:
        return
    lines = {event.subject: _wanted(event) for event in unheard}
    available = _lock_stock(session, {line.sku for wanted in lines.values() for line in wanted})
    outcomes = {}
    for order_id, wanted in lines.items():
        outcome = outcomes[order_id] = reserve(available, wanted)
        if isinstance(outcome, Reserved):
            for sku, quantity in outcome.quantities.items():
                available[sku] -= quantity
    _write(session, outcomes)
    for event in unheard:
        append(session, _event(event, 1, _answer_of(outcomes[event.subject])))


def _unheard_of(session: Session, created: Sequence[Event]) -> list[Event]:
    """Return the first event of each order that has no reservation yet, as they came."""
    first: dict[UUID, Event] = {}
    for event in created:
        first.setdefault(event.subject, event)
    known = select(Reservation.order_id).where(Reservation.order_id.in_(first))
    heard = set(session.scalars(known))
    return [event for order_id, event in first.items() if order_id not in heard]


def _write(session: Session, outcomes: Mapping[UUID, Reserved | Rejected]) -> None:
    """Write the reservations of orders, their lines, and what all of it takes from the stock."""
    rows = [
        {"order_id": order_id, "status": _status_of(outcomes[order_id]), "sequence": 1}
        for order_id in sorted(outcomes)
    ]
    inserted = postgresql.insert(Reservation).on_conflict_do_nothing()
    written = session.scalars(inserted.returning(Reservation.order_id), rows).all()
    if len(written) < len(rows):
        raise Transient("an order was cancelled meanwhile")
    total: Counter[str] = Counter()
    lines = []
    for order_id, outcome in outcomes.items():
        if isinstance(outcome, Reserved):
            total.update(outcome.quantities)
            quantities = outcome.quantities.items()
            lines += [{"order_id": order_id, "sku": s, "quantity": n} for s, n in quantities]
    if lines:
        session.execute(insert(ReservationLine), lines)
        _add_reserved(session, dict(sorted(total.items())))


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


def _wanted(event: Event) -> list[Wanted]:
    assert isinstance(event.data, OrderCreated)  # noqa: S101  # HANDLERS says so
    return [Wanted(line.sku, line.quantity) for line in event.data.lines]


def _status_of(outcome: Reserved | Rejected) -> Status:
    return Status.RESERVED if isinstance(outcome, Reserved) else Status.REJECTED


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
    OrderCreated: on_order_created,
    OrderCancelled: on_order_cancelled,
}

SETS: SetHandlers = {OrderCreated: on_orders_created}
