"""The places of orders' events: where each event is for each service that consumes it.

An event that was sent but not handled by the service is searched for as in the ledger, but only for
a second. This is sufficient to find a message in a retry tier or a parking lot. For a large parking
lot, its index is read instead. An event whose message is in neither counts as in flight. Only a
longer search can prove that the event is lost.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from common.kombu_topology import CONSUMERS
from console.errors import ActionError, first_line
from console.ledger.account import Account, OpenEvent, Place
from console.ledger.books import Books
from console.ledger.location import Located, locate
from console.orders import journal
from console.orders.delivery import Delivery, waiting
from console.orders.journal import Handled, Inbox, Journal, Sent
from console.orders.stopped import Stop, stopped
from console.settings import RedriveSettings
from eventbus.topology.service import Service

#: Maximum seconds for the search of the queues, which is sufficient to receive the messages of the
#: retry tiers.
SEARCH = 1.0


@dataclass(kw_only=True)
class Places:
    """The deliveries of orders' events, in the order of the events.

    `problem` states why the messages could not be searched for. Their events count as in flight.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    problem: str = ""

    @property
    def waiting(self) -> tuple[Delivery, ...]:
        """The deliveries that wait for their service."""
        return waiting(self.deliveries)


def find(
    settings: RedriveSettings,
    books: Books,
    read: Journal,
    services: Sequence[Service],
    *,
    seconds: float = SEARCH,
) -> Places:
    """Return where the events of a journal are for each of these services that consumes them.

    A search of the queues takes at most `seconds`. With 20 or more, it can prove that an event is
    lost. Retries of a service with open events wait for the search.
    """
    accounts = {service.name: Account(service=service) for service in services}
    expiry = datetime.now(UTC) - timedelta(days=settings.inbox_retention_days)
    for name, inbox in read.inboxes.items():
        for event in read.events:
            if accounts[name].owes(event.type) and _is_open(event, inbox.handled, expiry):
                _open(accounts[name], event)
    searched = [account for account in accounts.values() if account.open]
    located, problem = _locate(settings, books, searched, seconds)
    listed = list(_deliveries(read, accounts, located, expiry))
    return Places(deliveries=_explained(settings, services, read, listed), problem=problem)


def follow(
    settings: RedriveSettings, books: Books, order_id: UUID, *, seconds: float = SEARCH
) -> Places:
    """Return where the events of one order are, for each service with a queue; see `find`."""
    return find(settings, books, journal.read(books, [order_id]), CONSUMERS, seconds=seconds)


def _is_open(event: Sent, handled: Mapping[UUID, Handled], expiry: datetime) -> bool:
    return event.id not in handled and event.sent_at is not None and event.sent_at >= expiry


def _open(account: Account, event: Sent) -> None:
    assert event.sent_at is not None  # noqa: S101  # only sent events are open
    account.open[event.id] = OpenEvent(event.id, event.type, event.source, event.sent_at)


def _locate(
    settings: RedriveSettings, books: Books, accounts: Sequence[Account], seconds: float
) -> tuple[Mapping[str, Located], str]:
    # A longer search may prove that an event is lost, for which the index is not recent enough.
    located = dict(_indexed(books, accounts)) if seconds <= SEARCH else {}
    left = [account for account in accounts if account.open]
    if not left:
        return located, ""
    try:
        searched = locate(settings, books, left, seconds=seconds, whole=False, indexed=located)
    except ActionError as error:
        return located, str(error)
    except DBAPIError as error:
        return located, f"PostgreSQL: {first_line(error.orig or error)}"
    for name, found in searched.items():
        if parked := located.get(name):
            found.places |= parked.places
            found.messages |= parked.messages
    return located | searched, ""


def _indexed(books: Books, accounts: Sequence[Account]) -> Iterator[tuple[str, Located]]:
    """Yield the open events that are in the index of a large parking lot, and close them.

    Without the console's database, all parking lots are searched.
    """
    with suppress(DBAPIError):
        for account in accounts:
            parked = books.indexed(account.service, account.open)
            if parked is None:
                continue
            for event_id in parked:
                del account.open[event_id]
            places = dict.fromkeys(parked, Place.PARKED)
            yield account.service.name, Located(places=places, messages=parked)


def _deliveries(
    read: Journal,
    accounts: Mapping[str, Account],
    located: Mapping[str, Located],
    expiry: datetime,
) -> Iterator[Delivery]:
    for event in read.events:
        for name, account in accounts.items():
            if account.owes(event.type):
                found = located.get(name, Located())
                yield _delivery(read, account, event, found, expiry)


def _delivery(
    read: Journal, account: Account, event: Sent, found: Located, expiry: datetime
) -> Delivery:
    name, inbox = account.service.name, read.inboxes.get(account.service.name)
    handled = inbox.handled.get(event.id) if inbox else None
    place = found.places.get(event.id, Place.IN_FLIGHT)
    if handled:
        place = Place.HANDLED
    elif event.sent_at is None:
        place = Place.UNSENT
    elif event.sent_at < expiry:
        place = Place.EXPIRED
    elif place in {Place.IN_FLIGHT, Place.MISSING} and _is_earlier(account.service, inbox, event):
        place = Place.EARLIER
    return Delivery(
        event=event,
        service=name,
        place=place,
        handled=handled,
        message=found.messages.get(event.id),
        problem=event.problem,
    )


def _is_earlier(service: Service, inbox: Inbox | None, event: Sent) -> bool:
    # An essential service has consumed events since the first order, so even its first event may be
    # stuck.
    if service.essential or inbox is None or inbox.first is None:
        return False
    return event.id < inbox.first


def _explained(
    settings: RedriveSettings,
    services: Sequence[Service],
    read: Journal,
    deliveries: Sequence[Delivery],
) -> list[Delivery]:
    """Return the deliveries. A delivery in flight states why its service does not consume."""
    awaited = {each.service for each in deliveries if each.place is Place.IN_FLIGHT}
    if not awaited:
        return list(deliveries)
    idle = stopped(settings, [service for service in services if service.name in awaited])
    unavailable = {
        name: Stop(reason=f"its database is unavailable: {problem}")
        for name, problem in read.unread.items()
    }
    stops = {**idle, **unavailable}
    return [
        replace(each, problem=stop.reason, is_paused=stop.is_paused)
        if each.place is Place.IN_FLIGHT and (stop := stops.get(each.service))
        else each
        for each in deliveries
    ]
