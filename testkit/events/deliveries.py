"""Deliveries of events to a service, handled in the process of a test."""

from eventbus.consumer.receive import (
    Delivery,
    Handlers,
    Item,
    Outcome,
    receive_batch,
    receive_one,
)
from eventbus.database.db import Sessions
from eventbus.events import codec
from eventbus.events.envelope import Event


def delivery(event: Event, *, attempts: int = 1) -> Delivery:
    """Return the delivery of an event; `attempts` includes this delivery."""
    return Delivery(event.type, codec.wrap(codec.encode(event)), attempts)


def deliver(
    sessions: Sessions,
    handlers: Handlers,
    *events: Event,
    attempts: int = 1,
    in_sequence: bool = False,
) -> list[Outcome]:
    """Handle events in one batch, as a service's worker does, and return their outcomes.

    All events must be valid. Raises the errors of the handlers and the database.
    """
    items = [Item.of(delivery(event, attempts=attempts), handlers) for event in events]
    if len(items) == 1:
        receive_one(sessions, handlers, items[0], in_sequence=in_sequence)
    else:
        receive_batch(sessions, handlers, items, in_sequence=in_sequence)
        assert Outcome.FAILED not in [item.outcome for item in items]
    return [item.outcome for item in items]
