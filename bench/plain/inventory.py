"""A conventional inventory: a Celery task for each message, and a transaction for each task.

It has the same tables, TLS and guarantees: late acknowledgement, deduplication in the transaction,
and stock locked in a fixed order.
"""

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from bench.plain.application import application, sessions
from bench.plain.topology import INVENTORY
from common.events import OrderCreated, Quantity, Shortage, StockRejected, StockReserved
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.table import append
from inventory_worker.models import Reservation, ReservationLine, Status, Stock
from testkit.data.inboxes import first_delivery

app = application("plain-inventory", INVENTORY)


@app.task(name="order.created", shared=False)  # type: ignore[untyped-decorator]
def order_created(*, event: dict[str, Any]) -> None:
    """Reserve the stock of one order, or report its shortages."""
    decoded = codec.decode(event)
    with transaction(sessions()) as session:
        if first_delivery(session, decoded, attempts=1):
            _answer(session, decoded)


@app.task(name="order.cancelled", shared=False)  # type: ignore[untyped-decorator]
def order_cancelled(*, event: dict[str, Any]) -> None:
    """Release the stock of a cancelled order."""
    decoded = codec.decode(event)
    with transaction(sessions()) as session:
        if first_delivery(session, decoded, attempts=1):
            _release(session, decoded)


def _answer(session: Session, event: Event) -> None:
    data = event.data
    assert isinstance(data, OrderCreated)
    requested: dict[str, int] = {}
    for line in data.lines:
        requested[line.sku] = requested.get(line.sku, 0) + line.quantity
    levels = _locked(session, requested)
    short = _shortages(requested, levels)
    status = Status.REJECTED if short else Status.RESERVED
    session.add(Reservation(order_id=event.subject, status=status, sequence=1))
    if short:
        _append(session, event, StockRejected(reason="out_of_stock", shortages=short))
        return
    for sku, quantity in requested.items():
        levels[sku].reserved += quantity
    session.flush()
    lines = [{"order_id": event.subject, "sku": s, "quantity": n} for s, n in requested.items()]
    session.execute(insert(ReservationLine), lines)
    held = tuple(Quantity(sku=sku, quantity=quantity) for sku, quantity in requested.items())
    _append(session, event, StockReserved(lines=held))


def _release(session: Session, event: Event) -> None:
    reservation = session.get(Reservation, event.subject, with_for_update=True)
    if reservation is None or reservation.status != Status.RESERVED:
        return
    reservation.status = Status.RELEASED
    held = select(ReservationLine).where(ReservationLine.order_id == event.subject)
    quantities = {line.sku: line.quantity for line in session.scalars(held)}
    for sku, level in _locked(session, quantities).items():
        level.reserved -= quantities[sku]


def _locked(session: Session, skus: dict[str, int]) -> dict[str, Stock]:
    levels = select(Stock).where(Stock.sku.in_(skus)).order_by(Stock.sku).with_for_update()
    return {level.sku: level for level in session.scalars(levels)}


def _shortages(requested: dict[str, int], levels: dict[str, Stock]) -> tuple[Shortage, ...]:
    available = {sku: level.on_hand - level.reserved for sku, level in levels.items()}
    return tuple(
        Shortage(sku=sku, requested=quantity, available=max(0, available.get(sku, 0)))
        for sku, quantity in requested.items()
        if quantity > available.get(sku, 0)
    )


def _append(session: Session, cause: Event, answer: StockReserved | StockRejected) -> None:
    event = Event(
        source="inventory",
        subject=cause.subject,
        sequence=1,
        causationid=cause.id,
        data=answer,
    )
    append(session, event)
