"""A pass of the ledger, which reads new events and examines open events.

Events are read in the order in which they were appended, `DELAY` seconds later, because a pass must
not overtake a transaction that commits late. After a restart, the first passes read all events of
the outbox.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from uuid import UUID

from console.broker import state
from console.broker.management import Management
from console.broker.state import Object, figure
from console.ledger.account import OPEN_LIMIT, Account, Place
from console.ledger.books import PAGE, RECEIVERS, SENDERS, Books
from console.ledger.location import Located, locate, locate_in_stream, pages
from console.ledger.reconciliation import SEARCH, check_inbox, enter
from console.settings import RedriveSettings
from eventbus.topology.service import Service

#: Seconds after which an event is read. The databases end a transaction that is idle for a minute.
DELAY = 60.0

#: Maximum number of pages of each outbox in one pass, and seconds between two pages. A pass reads
#: at most 300,000 events, and 5,000 events per second.
PAGES, PAUSE = 300, 0.2


@dataclass
class Watch:
    """The accounts of all services between two passes. Missing events are kept until handled."""

    settings: RedriveSettings
    books: Books
    accounts: tuple[Account, ...] = field(
        default_factory=lambda: tuple(Account(service=service) for service in RECEIVERS)
    )
    #: For each outbox, the position up to which events were read, and the last position at the time
    #: of the previous pass.
    _read: dict[str, int] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)
    #: For each outbox, the events that were not sent when they were read.
    _unsent: dict[str, set[UUID]] = field(default_factory=dict)

    def run(self, *, search: float = SEARCH) -> None:
        """Make one pass. A search of the queues takes at most `search` seconds.

        Raises `ActionError` and the errors of the databases. The next pass continues.
        """
        for account in self.accounts:
            account.first = account.first or self.books.first(account.service)
            check_inbox(self.books, account)
            self._forget(account)
            if account.service.reads_stream and account.open:
                self._take(account, locate_in_stream(self.books, account, self._last))
        for sender in SENDERS:
            self._check_unsent(sender)
            self._read_new(sender)
            self._last[sender.name] = self.books.last(sender)
        self._search(search)

    @property
    def _is_full(self) -> bool:
        # Events beyond the limit would not be examined, so they wait until open events are handled.
        return any(len(a.open) + len(a.missing) > OPEN_LIMIT - PAGE for a in self.accounts)

    def _read_new(self, sender: Service) -> None:
        position = self._read.get(sender.name, 0)
        for _ in range(PAGES):
            if self._is_full:
                return
            rows = self.books.appended(sender, position)
            due = datetime.now(UTC) - timedelta(seconds=DELAY)
            # Rows are taken up to the first event that is too new, although a later row may have an
            # earlier time.
            events = [row.event for row in takewhile(lambda r: r.created_at < due, rows)]  # noqa: B023
            if not events:
                return
            unsent = {event.id for event in events if event.sent_at is None}
            self._unsent.setdefault(sender.name, set()).update(unsent)
            for account in self.accounts:
                sent = [event for event in events if event.sent_at]
                enter(self.settings, self.books, account, sender, sent)
            position = self._read[sender.name] = rows[len(events) - 1].position
            if len(events) < PAGE:
                return
            time.sleep(PAUSE)

    def _check_unsent(self, sender: Service) -> None:
        unsent = self._unsent.get(sender.name, set())
        for page in pages(unsent):
            if self._is_full:
                return
            found = self.books.find(sender.name, page)
            sent = [event for event in found if event.sent_at]
            for account in self.accounts:
                enter(self.settings, self.books, account, sender, sent)
            unsent.difference_update(event.id for event in sent)

    def _search(self, seconds: float) -> None:
        searched = [a for a in self.accounts if a.open and a.service.consumes]
        if not searched:
            return
        with Management(self.settings) as broker:
            totals = state.totals(broker)
        searched = [
            account
            for account in searched
            if _is_suspicious(account, totals) and not self._is_catching_up(account)
        ]
        located = locate(self.settings, self.books, searched, seconds=seconds)
        for account in searched:
            self._take(account, located[account.service.name])

    def _is_catching_up(self, account: Account) -> bool:
        record = self.books.overflow(account.service)
        return record is not None and record.requested_at is not None

    def _take(self, account: Account, located: Located) -> None:
        # Events in other places stay open: they may be handled, or lost, later.
        for place in (Place.HANDLED, Place.MISSING, Place.DISCARDED):
            account.settle([i for i, found in located.places.items() if found is place], place)

    def _forget(self, account: Account) -> None:
        """Drop missing events that were handled, and events that the outboxes delete."""
        handled: set[UUID] = set()
        for page in pages(event.id for event in account.missing):
            handled |= self.books.handled(account.service, page)
        kept = datetime.now(UTC) - timedelta(days=self.settings.outbox_retention_days)
        account.missing = [
            event for event in account.missing if event.id not in handled and event.sent_at > kept
        ]
        expired = [event.id for event in account.open.values() if event.sent_at <= kept]
        account.settle(expired, Place.EXPIRED)


def _is_suspicious(account: Account, totals: Mapping[str, Object]) -> bool:
    """Return whether the queues have fewer messages than the service has open events.

    Otherwise the open events may be these messages, and holding the retry tiers would delay retries
    for no benefit.
    """
    service = account.service
    mine = [
        figure(queue, "messages")
        for name, queue in totals.items()
        if service.is_part_queue(name)
        or name == service.parking_lot
        or name.startswith(f"{service.retry_exchange}.")
    ]
    counts = [count for count in mine if count is not None]
    return len(counts) == len(mine) and sum(counts) < len(account.open)
