"""Listing and redriving parked messages."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from amqp import Message
from sqlalchemy.exc import DBAPIError

from common import kombu_topology
from common.kombu_topology import CONSOLE
from console.broker.other_readers import unread
from console.broker.parked_message import Parked, event_id
from console.broker.parking_lot import ParkingLot, parking_lot
from console.databases.service_database import transaction
from console.errors import ActionError
from console.parking.age_limit import is_too_old
from console.parking.choice import choose
from console.parking.index import rows
from console.parking.selection import ALL, Selection
from console.settings import BrokerAdminSettings, DiscardSettings, RedriveSettings
from eventbus.topology.service import Service

#: The services that have a parking lot, by name.
CONSUMERS = {service.name: service for service in kombu_topology.CONSUMERS}

#: Maximum number of events that an error message lists.
_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The oldest messages of a parking lot, and the number of all messages that can be read.

    `unread` is the result of `other_readers`. `as_of` is the time of the index, or None if the
    parking lot was read. `last` is the last row of the index if there may be more, otherwise 0.
    """

    service: Service
    messages: tuple[Parked, ...]
    depth: int
    unread: str
    as_of: datetime | None = None
    last: int = 0


def show(
    settings: BrokerAdminSettings, service: Service, selection: Selection = ALL, *, limit: int
) -> Listing:
    """Return at most `limit` of the oldest selected messages, and leave them in place."""
    with parking_lot(settings, service) as lot:
        parked = (
            Parked.of(service, message)
            for message in lot.scan(limit if selection.is_empty else None)
        )
        messages = tuple(islice(filter(selection.matches, parked), limit))
        others = unread(settings, service, lot)
        return Listing(service=service, messages=messages, depth=lot.depth, unread=others)


def listed(
    settings: DiscardSettings, service: Service, selection: Selection = ALL, *, limit: int
) -> Listing:
    """Return the same from the index, if the parking lot is indexed and the index is available."""
    with suppress(DBAPIError), transaction(settings, CONSOLE) as session:
        if lot := rows.lot(session, service.name):
            found = rows.oldest(session, service.name, selection, limit=limit)
            return Listing(
                service=service,
                messages=tuple(found.values()),
                depth=lot.messages,
                unread=lot.unread,
                as_of=lot.read_at,
                last=max(found) if len(found) == limit else 0,
            )
    return show(settings, service, selection, limit=limit)


def redrive_all(
    settings: RedriveSettings,
    service: Service,
    *,
    progress: Callable[[int, int], None] = lambda _done, _depth: None,
) -> int:
    """Redrive every message that is parked now, oldest first; return how many.

    After the redrive, raises `ActionError` naming the events that stay parked, or if another reader
    holds messages.
    """
    redriven = _Redriven(settings)
    with parking_lot(settings, service) as lot:
        for message in lot.messages():
            redriven.put_back(lot, message)
            progress(redriven.done, lot.depth)
        others = unread(settings, service, lot)
    problems = redriven.problems()
    if others:
        problems.append(f"{others}: redrive again")
    if problems:
        raise ActionError("; ".join((f"{redriven.done} redriven", *problems)))
    return redriven.done


def redrive(
    settings: RedriveSettings,
    service: Service,
    event_ids: Iterable[str],
    *,
    digest: str | None = None,
    report: Callable[[str], object] = lambda _event_id: None,
) -> int:
    """Redrive the messages of these events, calling `report` after each; return how many.

    With `digest`, only messages whose body has this SHA-256 are redriven. Raises `ActionError` if
    an event is parked with different bodies; nothing is changed in this case. Also raises
    `ActionError`, after redriving the other events, naming the events that are not parked and those
    that stay parked.
    """
    redriven = _Redriven(settings)
    with parking_lot(settings, service) as lot:
        choice = choose(settings, service, lot, event_ids, digest)
        for message in choice.messages:
            if redriven.put_back(lot, message):
                report(event_id(message))
    problems = redriven.problems()
    if choice.more:
        problems.append(f"{redriven.done} redriven, and {choice.more} left: redrive them again")
    if choice.missing:
        problems.append(choice.missing)
    if problems:
        raise ActionError("; ".join(problems))
    return redriven.done


class _Redriven:
    """The number of redriven messages, and the events that stay parked."""

    def __init__(self, settings: RedriveSettings) -> None:
        self._settings = settings
        self._too_old: list[str] = []
        self._not_copied: list[str] = []
        self.done = 0

    def put_back(self, lot: ParkingLot, message: Message) -> bool:
        """Redrive a message; return False if its event is too old or it cannot be copied."""
        if is_too_old(message, self._settings):
            self._too_old.append(event_id(message))
            return False
        if not lot.put_back(message):
            self._not_copied.append(event_id(message))
            return False
        self.done += 1
        return True

    def problems(self) -> list[str]:
        """Return a line for each reason why events stay parked."""
        days = f"older than PARKED_REDRIVE_DAYS ({self._settings.parked_redrive_days})"
        return [
            *_left_parked(self._too_old, days),
            *_left_parked(self._not_copied, "with properties that cannot be copied"),
        ]


def _left_parked(event_ids: Sequence[str], reason: str) -> Iterator[str]:
    if event_ids:
        listed, more = ", ".join(event_ids[:_LISTED]), len(event_ids) - _LISTED
        rest = f" and {more} more" if more > 0 else ""
        yield f"{len(event_ids)} left parked, {reason}: {listed}{rest}"
