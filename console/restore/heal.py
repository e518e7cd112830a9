"""Healing of one service: lost data is restored, and then missing events are delivered."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from common.kombu_topology import NOTIFICATION, ORDER
from console.actions import topology
from console.broker.topology_diff import Difference
from console.ledger.account import Account
from console.ledger.books import RECEIVERS, Books
from console.ledger.reconciliation import Effort
from console.ledger.repair import Republished, republish
from console.restore import restoration
from console.restore.delivery import KEPT_BY_NEW_BROKER, unknown
from console.settings import LedgerSettings, RestoreSettings
from eventbus.database.db import transaction
from eventbus.topology.service import Service
from notification_worker import restoration as mails
from order_app import restoration as orders

Report = Callable[[str], object]

#: Seconds between two reports of progress.
_INTERVAL = 5.0


@dataclass(frozen=True, kw_only=True)
class Healed:
    """The result of healing a service, or the broker."""

    #: Number of lost events of the service that are in its outbox again, with their records.
    restored: int = 0
    #: Number of emails of the restored database that will not be sent.
    held: int = 0
    #: Number of events that were delivered again. An event counts once for each service that lacked
    #: it.
    delivered: int
    #: Number of other events that the service may lack, which another run examines.
    unexamined: int


def heal(
    settings: LedgerSettings,
    books: Books,
    service: Service,
    *,
    since: datetime | None,
    effort: Effort,
    report: Report,
) -> Healed:
    """Bring the database of a service up to date from the stream and the other outboxes.

    Events from before `since` are not examined. Another run continues after an interruption, and
    changes nothing after a success. Raises `ActionError`, and the errors of the databases.
    """
    restored = 0
    # Records are restored before events are delivered, so that the service does not repeat its
    # decisions.
    if service.publishes:
        report(f"reading what the {service.name} service has published")
        restored = restoration.restore(
            settings,
            books,
            service,
            since or "first",
            report=_progress(report, "restored"),
        )
    report(f"searching for events that the {service.name} service lacks")
    (account,) = unknown(settings, books, [service], since=since, effort=effort)
    held = _prepare(books, account)
    # For the notification service, the events are marked as replayed, because their emails were
    # most likely sent.
    is_history = service is NOTIFICATION
    delivered = _counted(republish(settings, books, [account], replayed=is_history), report)
    return Healed(restored=restored, held=held, delivered=delivered, unexamined=account.unexamined)


def heal_broker(
    settings: RestoreSettings,
    books: Books,
    *,
    since: datetime | None,
    effort: Effort,
    changed: Callable[[Difference], object],
    report: Report,
) -> Healed:
    """Declare the broker's objects, and deliver each sent event to the services that lack it.

    Raises `ActionError`, and the errors of the databases. Another run continues.
    """
    for difference in topology.apply(settings):
        changed(difference)
    report("searching for events that no inbox contains")
    accounts = unknown(
        settings, books, RECEIVERS, since=since, effort=effort, kept=KEPT_BY_NEW_BROKER
    )
    return Healed(
        delivered=_counted(republish(settings, books, accounts), report),
        unexamined=sum(account.unexamined for account in accounts),
    )


def _prepare(books: Books, account: Account) -> int:
    """Prepare a restored database for the events that it lacks; return the number of held emails.

    If the processes of the service run, nothing is changed, because waiting emails are new, and
    deadlines still apply.
    """
    service = account.service
    if service not in (NOTIFICATION, ORDER) or restoration.is_running(books, service):
        return 0
    with transaction(books.databases[service.name]) as session:
        if service is ORDER:
            orders.extend_deadlines(session)
            return 0
        return mails.hold(session) if account.missing else 0


def _counted(published: Iterator[Republished], report: Report) -> int:
    count, progress = 0, _progress(report, "delivered")
    for count, _ in enumerate(published, start=1):
        progress(count)
    return count


def _progress(report: Report, done: str) -> Callable[[int], None]:
    """Return a function that reports a number of events at intervals."""
    reported = time.monotonic()

    def progress(count: int) -> None:
        nonlocal reported
        if time.monotonic() - reported > _INTERVAL:
            reported = time.monotonic()
            report(f"{count} events {done}")

    return progress
