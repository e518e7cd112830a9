"""Shows what is parked, and why, gives it back to its service, or deletes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from amqp import Message

from common import kombu_topology
from common.kombu_topology import Service
from console.errors import ActionError
from console.parked_message import Parked, body_text, event_id, event_time
from console.parking_lot import HOLD_LIMIT, parking_lot
from console.settings import BrokerAdminSettings, RedriveSettings

#: The services that have a parking lot, by name.
CONSUMERS = {service.name: service for service in kombu_topology.CONSUMERS}

#: Events that an error names.
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The oldest messages of a parking lot, and how many there are in all."""

    service: Service
    messages: tuple[Parked, ...]
    depth: int


@dataclass(frozen=True, kw_only=True)
class Discarded:
    """A message that is no more: why it was parked, and what it said."""

    parked: Parked
    body: str


def show(settings: BrokerAdminSettings, service: Service, *, limit: int) -> Listing:
    """Return the oldest parked messages of a service, at most `limit`; all stay where they are."""
    with parking_lot(settings, service) as lot:
        # Further than the limit, so that all go back together and keep their order.
        held = islice(lot.messages(), max(limit, HOLD_LIMIT))
        messages = [Parked.of(service, message) for message in held]
        return Listing(service=service, messages=tuple(messages[:limit]), depth=lot.depth)


def redrive_all(
    settings: RedriveSettings,
    service: Service,
    *,
    progress: Callable[[int, int], None] = lambda _done, _depth: None,
) -> int:
    """Put back every message that is parked now, oldest first; returns how many.

    Raises `ActionError` naming the events that are too old, after putting back the others.
    """
    done, too_old = 0, list[str]()
    with parking_lot(settings, service) as lot:
        for message in lot.messages():
            if _is_too_old(message, settings):
                too_old.append(str(event_id(message)))
                continue
            lot.put_back(message)
            done += 1
            progress(done, lot.depth)
    if too_old:
        raise ActionError(f"{done} put back; {_stay(too_old, settings)}")
    return done


def redrive(settings: RedriveSettings, service: Service, event_ids: Sequence[str]) -> int:
    """Put back the messages of these events; returns how many.

    Raises `ActionError` naming the events that are not parked, and those that are too old, after
    putting back the others.
    """
    missing, too_old = set(event_ids), set[str]()
    done = 0
    with parking_lot(settings, service) as lot:
        # To the end: one event may be parked twice.
        for message in lot.messages():
            if (found := event_id(message)) not in event_ids:
                continue
            missing.discard(str(found))
            if _is_too_old(message, settings):
                too_old.add(str(found))
                continue
            lot.put_back(message)
            done += 1
    problems = [_stay(sorted(too_old), settings)] if too_old else []
    if missing:
        problems.append(_not_parked(service, missing))
    if problems:
        raise ActionError("; ".join(problems))
    return done


def discard(
    settings: BrokerAdminSettings, service: Service, event_ids: Sequence[str]
) -> tuple[Discarded, ...]:
    """Delete the messages of these events for ever; returns them.

    Raises `ActionError` naming the events that are not parked; then nothing is deleted.
    """
    with parking_lot(settings, service) as lot:
        found = [message for message in lot.messages() if event_id(message) in event_ids]
        if missing := set(event_ids) - {event_id(message) for message in found}:
            raise ActionError(_not_parked(service, missing))
        for message in found:
            lot.discard(message)
    return tuple(
        Discarded(parked=Parked.of(service, message), body=body_text(message)) for message in found
    )


def _is_too_old(message: Message, settings: RedriveSettings) -> bool:
    # One that tells no time is no event to its service either, and so has no effect.
    time = event_time(message)
    return time is not None and datetime.now(UTC) - time > settings.redrive_limit


def _not_parked(service: Service, event_ids: set[str]) -> str:
    return f"not parked by {service.name}: {', '.join(sorted(event_ids))}"


def _stay(event_ids: Sequence[str], settings: RedriveSettings) -> str:
    named, more = ", ".join(event_ids[:_NAMED]), len(event_ids) - _NAMED
    return (
        f"{len(event_ids)} stay parked, older than PARKED_REDRIVE_DAYS"
        f" ({settings.parked_redrive_days}): {named}" + (f" and {more} more" if more > 0 else "")
    )
