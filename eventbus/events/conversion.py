"""Conversion of an event between the versions of its fact, with the same id and envelope.

A consumer upcasts each event, so its handlers receive only one version. A relay converts the events
that it publishes, so consumers of other versions also receive them.
"""

from collections.abc import Container
from dataclasses import replace

from eventbus.errors import InvalidEvent
from eventbus.events.catalogue import current
from eventbus.events.envelope import Event, EventData
from eventbus.events.versions import from_on, up_to, versions


def upcast(event: Event, accepted: Container[type[EventData]]) -> Event:
    """Return an event in the oldest accepted version that is not older than its own version.

    Raises `InvalidEvent` if no such version is accepted.
    """
    data = event.data
    upcasts = current().upcasts
    while type(data) not in accepted:
        to_next = upcasts.get(type(data))
        if to_next is None:
            raise InvalidEvent(f"this service does not handle {event.type}")
        data = to_next(data)
    return event if data is event.data else replace(event, data=data)


def newest(event: Event) -> Event:
    """Return an event in the newest version of its fact."""
    return upcast(event, current().newest)


def convert(event: Event, event_type: str) -> Event:
    """Return an event converted to the version that has this event type.

    Raises `InvalidEvent` if the fact has no such version.
    """
    if event_type not in versions(event.type):
        raise InvalidEvent(f"{event.type} has no version {event_type}")
    data = event.data
    catalogue = current()
    casts = catalogue.upcasts if event_type in from_on(event.type) else catalogue.downcasts
    while event_type != data.TYPE:
        data = casts[type(data)](data)
    return replace(event, data=data)


def understood(contract: type[EventData]) -> tuple[str, ...]:
    """Return the event types that can be upcast to a contract, oldest first."""
    return up_to(contract.TYPE)
