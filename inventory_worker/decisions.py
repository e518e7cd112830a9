"""Decisions on a batch of events, made in memory in the order of the events."""

from collections.abc import Mapping
from uuid import UUID

from common import events
from common.events import OrderCancelled, OrderCreatedV2, OrderShipped, Quantity
from eventbus.events.envelope import Event
from inventory_worker.declaration import INVENTORY
from inventory_worker.domain import (
    Rejected,
    Reservation,
    Reserved,
    Status,
    Wanted,
    cancel,
    changes,
    reserve,
    ship,
)


class Decisions:
    """The reservations and published events that result from a batch, given locked rows."""

    def __init__(self, available: dict[str, int], known: Mapping[UUID, Reservation]) -> None:
        self._available = available
        #: The reservations after the events so far.
        self.reservations = dict(known)
        #: The events to publish.
        self.answers: list[Event] = []

    def take(self, event: Event) -> None:
        """Decide on one event; a second `order.created` of an order has no effect."""
        before = self.reservations.get(event.subject)
        match event.data:
            case OrderCreatedV2() if before is None:
                after = self._reserve(event)
            case OrderCancelled():
                after = cancel(before)
                if after is not before and after.status is Status.RELEASED:
                    released = events.StockReleased(lines=_quantities(after.quantities))
                    self._answer(event, after.sequence, released)
            case OrderShipped():
                after = ship(before, wanted(event))
            case _:
                return
        for change in changes(before, after):
            left = self._available.get(change.sku, 0)
            self._available[change.sku] = left + change.on_hand - change.reserved
        self.reservations[event.subject] = after

    def _reserve(self, event: Event) -> Reservation:
        outcome = reserve(self._available, wanted(event))
        self._answer(event, 1, _reply(outcome))
        match outcome:
            case Reserved(quantities):
                return Reservation(status=Status.RESERVED, sequence=1, quantities=quantities)
            case Rejected():
                return Reservation(status=Status.REJECTED, sequence=1)

    def _answer(self, cause: Event, sequence: int, data: events.Data) -> None:
        answer = Event(
            source=INVENTORY.name,
            subject=cause.subject,
            sequence=sequence,
            traceparent=cause.traceparent,
            causationid=cause.id,
            data=data,
        )
        self.answers.append(answer)


def wanted(event: Event) -> list[Wanted]:
    """Return the lines of an event's order, or an empty list if the event has no lines."""
    if isinstance(event.data, OrderCreatedV2 | OrderShipped):
        return [Wanted(line.sku, line.quantity) for line in event.data.lines]
    return []


def _reply(outcome: Reserved | Rejected) -> events.Data:
    match outcome:
        case Reserved(quantities):
            return events.StockReserved(lines=_quantities(quantities))
        case Rejected(shortages):
            reported = (
                events.Shortage(sku=s.sku, requested=s.requested, available=s.available)
                for s in shortages
            )
            return events.StockRejected(reason="out_of_stock", shortages=tuple(reported))


def _quantities(quantities: Mapping[str, int]) -> tuple[Quantity, ...]:
    return tuple(Quantity(sku=sku, quantity=quantity) for sku, quantity in quantities.items())
