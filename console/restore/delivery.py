"""Delivery of lost events, each only to the services that lack it."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from console.ledger import reconciliation
from console.ledger.account import Account, Place
from console.ledger.books import SENDERS, Books
from console.ledger.location import Located, locate, locate_in_stream
from console.ledger.reconciliation import Effort
from console.settings import LedgerSettings
from eventbus.topology.service import Service

#: The places from which a service will still receive an event, or deliberately will not.
KEPT = frozenset(
    {
        Place.HANDLED,
        Place.UNSENT,
        Place.RETRYING,
        Place.PARKED,
        Place.DISCARDED,
        Place.IN_STREAM,
    }
)

#: The same places if the broker has lost its data, and therefore has a new stream.
KEPT_BY_NEW_BROKER = KEPT - {Place.IN_STREAM}


def unknown(
    settings: LedgerSettings,
    books: Books,
    services: Sequence[Service],
    *,
    since: datetime | None,
    effort: Effort,
    kept: Collection[Place] = KEPT,
) -> list[Account]:
    """Return the accounts of services; `missing` are the events to deliver again.

    These are the events that are in none of the places `kept`. Unlike in a reconciliation, no proof
    is required: if the event is in the queue, the copy is behind the event, and the inbox drops the
    copy. A service with an empty inbox has lost its database, and lacks all events. Raises
    `ActionError`, and the errors of the databases.
    """
    accounts = [Account(service=s, first=books.first(s) or UUID(int=0)) for s in services]
    reconciliation.scan(settings, books, accounts, since=since, pause=effort.pause)
    positions = {sender.name: books.last(sender) for sender in SENDERS}
    reconciliation.settle(books, accounts, effort.settling)
    queued = [each for each in accounts if each.open and each.service.consumes]
    located = locate(settings, books, queued, seconds=effort.search) if queued else {}
    located |= {
        each.service.name: locate_in_stream(books, each, positions)
        for each in accounts
        if each.service.reads_stream
    }
    for account in accounts:
        _take(account, located.get(account.service.name, Located()), kept)
    return accounts


def _take(account: Account, located: Located, kept: Collection[Place]) -> None:
    for place in kept:
        account.settle([i for i, found in located.places.items() if found is place], place)
    account.settle(tuple(account.open), Place.MISSING)
    account.missing.sort(key=lambda event: event.sent_at)
