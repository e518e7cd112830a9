"""Reconciliation: the place of each event of every outbox, for each consumer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from console.ledger.account import Account, OutboxEvent, Place
from console.ledger.books import PAGE, RECEIVERS, SENDERS, Books, lowest_id
from console.ledger.location import Located, locate, locate_in_stream, pages
from console.settings import LedgerSettings, RedriveSettings
from eventbus.topology.service import Service

#: Seconds between two pages, so that most of the databases' time is left for other work.
PAUSE = 0.02

#: Seconds for events in flight to be handled before queues are searched.
SETTLING = 5.0

#: Maximum seconds for the search of the queues.
SEARCH = 30.0

#: Maximum time by which a row of the inbox is deleted too early. It covers the difference between
#: the clocks of two databases, and the time between the handling and the broker's confirm.
_SLACK = timedelta(hours=1)

#: A function that is called after each page with the number of events read so far.
Report = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The limits of a reconciliation, in seconds: see `PAUSE`, `SETTLING` and `SEARCH`."""

    pause: float = PAUSE
    settling: float = SETTLING
    search: float = SEARCH


def reconcile(
    settings: LedgerSettings,
    books: Books,
    *,
    receivers: Sequence[Service] = RECEIVERS,
    since: datetime | None = None,
    effort: Effort | None = None,
    report: Report = lambda _read: None,
) -> tuple[Account, ...]:
    """Return the accounts of these services, from the events that were appended after `since`.

    Without `since`, all events of the outboxes are read. Raises `ActionError` if the broker cannot
    be reached, and the errors of the databases.
    """
    effort = effort or Effort()
    accounts = tuple(Account(service=s, first=books.first(s)) for s in receivers)
    scan(settings, books, accounts, since=since, pause=effort.pause, report=report)
    positions = {sender.name: books.last(sender) for sender in SENDERS}
    settle(books, accounts, effort.settling)
    searched = [a for a in accounts if a.open and a.service.consumes]
    located = locate(settings, books, searched, seconds=effort.search)
    located |= {
        a.service.name: locate_in_stream(books, a, positions)
        for a in accounts
        if a.service.reads_stream
    }
    for account in accounts:
        _close(account, located.get(account.service.name, Located()))
    return accounts


def enter(
    settings: RedriveSettings,
    books: Books,
    account: Account,
    sender: Service,
    events: Sequence[OutboxEvent],
) -> None:
    """Enter a page of events of an outbox into an account."""
    owed = account.owed(events)
    handled = books.handled(account.service, [event.id for event in owed])
    expiry = datetime.now(UTC) - timedelta(days=settings.inbox_retention_days) + _SLACK
    account.enter(sender.name, owed, handled, expiry)


def check_inbox(books: Books, account: Account) -> None:
    """Count the open events that the service has handled."""
    for page in pages(account.open):
        account.settle(books.handled(account.service, page), Place.HANDLED)


def scan(
    settings: LedgerSettings,
    books: Books,
    accounts: Sequence[Account],
    *,
    since: datetime | None,
    pause: float,
    report: Report = lambda _read: None,
) -> None:
    """Enter the events of all outboxes that were appended after `since` into these accounts."""
    read = 0
    for sender in SENDERS:
        after = lowest_id(since) if since else UUID(int=0)
        while events := books.page(sender, after):
            for account in accounts:
                enter(settings, books, account, sender, events)
            after = events[-1].id
            read += len(events)
            report(read)
            if len(events) < PAGE:
                break
            time.sleep(pause)


def settle(books: Books, accounts: Sequence[Account], seconds: float) -> None:
    """Count the open events that are handled, until all are handled or the time has elapsed."""
    deadline = time.monotonic() + seconds
    while True:
        for account in accounts:
            check_inbox(books, account)
        if not any(a.open for a in accounts) or time.monotonic() > deadline:
            return
        time.sleep(1.0)


def _close(account: Account, located: Located) -> None:
    for place in Place:
        account.settle([i for i, found in located.places.items() if found is place], place)
    account.unproven = located.unproven
    account.parked_duplicates = located.parked_duplicates
    account.close()
