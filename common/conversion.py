"""One event in another version: the same fact, with the same id, in the form of another contract.

A consumer upcasts what it hears, so that its handlers see one form only. A relay converts what it
sends, so that consumers of another version hear it, too. Both ways are total: whatever is valid in
one version is valid in the next, and comes back unchanged.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from common.errors import InvalidEvent
from common.events import (
    EVENTS,
    Customer,
    Data,
    Event,
    Line,
    Money,
    OrderCreated,
    OrderCreatedV2,
    PricedLine,
)
from common.versions import from_on, up_to, versions


def _order_created_v2(old: OrderCreated) -> OrderCreatedV2:
    return OrderCreatedV2(
        customer=Customer(email=old.customer_email),
        total=Money(amount=old.total, currency=old.currency),
        lines=tuple(
            PricedLine(
                sku=line.sku,
                quantity=line.quantity,
                unit_price=Money(amount=line.unit_price, currency=old.currency),
            )
            for line in old.lines
        ),
        client_ip=old.client_ip,
    )


def _order_created(new: OrderCreatedV2) -> OrderCreated:
    return OrderCreated(
        customer_email=new.customer.email,
        currency=new.total.currency,
        total=new.total.amount,
        lines=tuple(
            Line(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price.amount)
            for line in new.lines
        ),
        client_ip=new.client_ip,
    )


#: A contract to what makes the next version's data of its own.
UPCASTS: Mapping[type[Data], Callable[[Any], Data]] = {OrderCreated: _order_created_v2}

#: A contract to what makes the version's before it.
DOWNCASTS: Mapping[type[Data], Callable[[Any], Data]] = {OrderCreatedV2: _order_created}

#: The contracts that have no next version.
_NEWEST: frozenset[type[Data]] = frozenset(EVENTS.values()) - UPCASTS.keys()


def upcast(event: Event, wanted: Container[type[Data]]) -> Event:
    """Return an event in the first version, from its own on, whose contract is wanted.

    Raises `InvalidEvent` if none is.
    """
    data = event.data
    while type(data) not in wanted:
        to_next = UPCASTS.get(type(data))
        if to_next is None:
            raise InvalidEvent(f"nothing here handles {event.type}")
        data = to_next(data)
    return event if data is event.data else replace(event, data=data)


def newest(event: Event) -> Event:
    """Return an event in the newest version of its type."""
    return upcast(event, _NEWEST)


def convert(event: Event, event_type: str) -> Event:
    """Return an event in the version of this type. Raises `InvalidEvent` if it has none."""
    if event_type not in versions(event.type):
        raise InvalidEvent(f"{event.type} has no version {event_type}")
    data = event.data
    casts = UPCASTS if event_type in from_on(event.type) else DOWNCASTS
    while event_type != data.TYPE:
        data = casts[type(data)](data)
    return replace(event, data=data)


def understood(contract: type[Data]) -> tuple[str, ...]:
    """Return the types of the events that can be upcast to this contract, oldest first."""
    return up_to(contract.TYPE)
