"""Shows what is parked, and why, gives it back to its service, or deletes it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from amqp import Message

from common import kombu_topology
from console.broker.parked_message import Parked, body_text, event_id, event_time
from console.broker.parking_lot import ParkingLot, parking_lot
from console.errors import ActionError
from console.settings import BrokerAdminSettings, RedriveSettings
from eventbus.topology.service import Service

#: The services that have a parking lot, by name.
CONSUMERS = {service.name: service for service in kombu_topology.CONSUMERS}

#: Messages that are deleted at once, all of which are in memory. One event may be parked often.
DISCARD_LIMIT = 1_000

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
        messages = tuple(Parked.of(service, message) for message in lot.messages(limit))
        return Listing(service=service, messages=messages, depth=lot.depth)


def redrive_all(
    settings: RedriveSettings,
    service: Service,
    *,
    progress: Callable[[int, int], None] = lambda _done, _depth: None,
) -> int:
    """Put back every message that is parked now, oldest first; returns how many.

    Raises `ActionError` naming the events that stay, after putting back the others.
    """
    redriven = _Redriven(settings)
    with parking_lot(settings, service) as lot:
        for message in lot.messages():
            redriven.put_back(lot, message)
            progress(redriven.done, lot.depth)
    if problems := redriven.problems():
        raise ActionError("; ".join((f"{redriven.done} put back", *problems)))
    return redriven.done


def redrive(settings: RedriveSettings, service: Service, event_ids: Sequence[str]) -> int:
    """Put back the messages of these events; returns how many.

    Raises `ActionError` naming the events that are not parked, and those that stay, after putting
    back the others.
    """
    wanted, redriven = set(event_ids), _Redriven(settings)
    missing = set(wanted)
    with parking_lot(settings, service) as lot:
        # To the end: one event may be parked twice.
        for message in lot.messages():
            if (found := event_id(message)) in wanted:
                missing.discard(found)
                redriven.put_back(lot, message)
    problems = redriven.problems()
    if missing:
        problems.append(_not_parked(service, missing))
    if problems:
        raise ActionError("; ".join(problems))
    return redriven.done


def discard(
    settings: BrokerAdminSettings, service: Service, event_ids: Sequence[str]
) -> tuple[Discarded, ...]:
    """Delete the messages of these events for ever; returns them, at most `DISCARD_LIMIT`.

    Raises `ActionError` naming the events that are not parked; then nothing is deleted.
    """
    wanted, found = set(event_ids), list[Message]()
    missing = set(wanted)
    with parking_lot(settings, service) as lot:
        for message in lot.messages():
            if (named := event_id(message)) in wanted and len(found) < DISCARD_LIMIT:
                missing.discard(named)
                found.append(message)
        if missing:
            raise ActionError(_not_parked(service, missing))
        for message in found:
            lot.discard(message)
    return tuple(
        Discarded(parked=Parked.of(service, message), body=body_text(message)) for message in found
    )


class _Redriven:
    """What was put back, and the events that stay parked."""

    def __init__(self, settings: RedriveSettings) -> None:
        self._settings = settings
        self._too_old: list[str] = []
        self._not_copied: list[str] = []
        self.done = 0

    def put_back(self, lot: ParkingLot, message: Message) -> None:
        """Put a message back, unless its event is too old or it cannot be copied."""
        if _is_too_old(message, self._settings):
            self._too_old.append(event_id(message))
        elif lot.put_back(message):
            self.done += 1
        else:
            self._not_copied.append(event_id(message))

    def problems(self) -> list[str]:
        """Return a line for each reason for which events stay parked."""
        days = f"older than PARKED_REDRIVE_DAYS ({self._settings.parked_redrive_days})"
        return [
            *_stay(self._too_old, days),
            *_stay(self._not_copied, "with properties that cannot be copied"),
        ]


def _is_too_old(message: Message, settings: RedriveSettings) -> bool:
    # One that tells no time is no event to its service either, and so has no effect.
    time = event_time(message)
    return time is not None and datetime.now(UTC) - time > settings.redrive_limit


def _not_parked(service: Service, event_ids: set[str]) -> str:
    return f"not parked by {service.name}: {', '.join(sorted(event_ids))}"


def _stay(event_ids: Sequence[str], why: str) -> Iterator[str]:
    if event_ids:
        named, more = ", ".join(event_ids[:_NAMED]), len(event_ids) - _NAMED
        rest = f" and {more} more" if more > 0 else ""
        yield f"{len(event_ids)} stay parked, {why}: {named}{rest}"
