"""A check that no event overtakes a parked event in a service that parks in sequence."""

from collections.abc import Iterable, Iterator

from eventbus.consumer.inbox import already_handled
from eventbus.consumer.receive import Delivery
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.codec import Position


def passed(sessions: Sessions, lot: Iterable[bytes], handled: Iterable[Delivery]) -> list[str]:
    """Return which handled events have passed an event that was in the parking lot before.

    `lot` contains the bodies of the messages that were parked when the handling began.
    """
    ahead = list(_positions(lot))
    pairs = [
        (parked.id, event.id)
        for event in _positions(delivery.body for delivery in handled)
        for parked in ahead
        if (event.subject, event.source) == (parked.subject, parked.source)
        and parked.sequence < event.sequence
    ]
    with transaction(sessions) as session:
        # A copy of a handled event may still be parked.
        done = already_handled(session, {first for first, _ in pairs})
    return [
        f"{later} passed {first}, which is parked" for first, later in pairs if first not in done
    ]


def _positions(bodies: Iterable[bytes | str]) -> Iterator[Position]:
    return filter(None, map(codec.position, bodies))
