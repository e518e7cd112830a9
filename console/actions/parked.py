"""Shows what is parked, and why, and gives it back to its service."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from common.kombu_topology import SERVICES, Service
from console.errors import ActionError
from console.parked_message import Parked, event_id
from console.parking_lot import HOLD_LIMIT, parking_lot
from console.settings import BrokerAdminSettings

#: The services that have a parking lot, by name.
CONSUMERS = {service.name: service for service in SERVICES if service.consumes}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The oldest messages of a parking lot, and how many there are in all."""

    service: Service
    messages: tuple[Parked, ...]
    depth: int


def show(settings: BrokerAdminSettings, service: Service, *, limit: int) -> Listing:
    """Return the oldest parked messages of a service, at most `limit`; all stay where they are."""
    with parking_lot(settings, service) as lot:
        # Further than the limit, so that all go back together and keep their order.
        held = islice(lot.messages(), max(limit, HOLD_LIMIT))
        messages = [Parked.of(service, message) for message in held]
        return Listing(service=service, messages=tuple(messages[:limit]), depth=lot.depth)


def redrive_all(
    settings: BrokerAdminSettings,
    service: Service,
    *,
    progress: Callable[[int, int], None] = lambda _done, _depth: None,
) -> int:
    """Put back every message that is parked now, oldest first; returns how many."""
    done = 0
    with parking_lot(settings, service) as lot:
        for message in lot.messages():
            lot.put_back(message)
            done += 1
            progress(done, lot.depth)
    return done


def redrive(settings: BrokerAdminSettings, service: Service, event_ids: Sequence[str]) -> int:
    """Put back the messages of these events; returns how many.

    Raises `ActionError` naming the events that are not parked, after putting back the others.
    """
    missing = set(event_ids)
    done = 0
    with parking_lot(settings, service) as lot:
        # To the end: one event may be parked twice.
        for message in lot.messages():
            if event_id(message) in event_ids:
                lot.put_back(message)
                missing.discard(str(event_id(message)))
                done += 1
    if missing:
        raise ActionError(f"not parked by {service.name}: {', '.join(sorted(missing))}")
    return done
