"""Comparison of all databases, to find databases that are behind and the events they lack."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from common.kombu_topology import INVENTORY, ORDER
from console.broker import state
from console.broker.management import Management
from console.ledger import reconciliation
from console.ledger.account import Account, Place
from console.ledger.books import RECEIVERS, Books, lowest_id
from console.ledger.reconciliation import Effort
from console.restore.entries import Entered, lost_entries
from console.restore.lost import LIMIT, Named, lost
from console.restore.orphans import orphans
from console.settings import BrokerAdminSettings, LedgerSettings
from eventbus.topology.service import Service

#: Maximum number of ids in a text. The document lists up to `LIMIT`.
LISTED = 20


@dataclass(kw_only=True)
class Condition:
    """The condition of one service's database."""

    service: Service
    #: The places of the events that the service consumes; None if the broker has lost its queues.
    account: Account | None
    #: Events that the service has published and that are no longer in its outbox.
    lost: Named = field(default_factory=Named)
    #: For each service, the orders that it has recorded and that the order service does not have.
    orphans: dict[str, Named] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """The number of events that the service lacks."""
        account = self.account
        if account is None:
            return 0
        # A reader of the stream with an empty inbox reads the events itself.
        is_lost = account.first is None and not account.service.reads_stream
        return account.counts[Place.MISSING] + is_lost * account.counts[Place.EARLIER]

    @property
    def is_behind(self) -> bool:
        """Whether the database is proven to be behind the others."""
        return bool(self.lost.count or self.missing or any(n.count for n in self.orphans.values()))

    def document(self) -> dict[str, Any]:
        """Return the condition as a JSON document, with at most `LIMIT` ids of each kind."""
        account = self.account
        return {
            "service": self.service.name,
            "behind": self.is_behind,
            "lost": _listed(self.lost),
            "missing": {
                "count": self.missing,
                "ids": [str(event.id) for event in account.missing[:LIMIT]] if account else [],
            },
            "unproven": account.unproven or None if account else "the broker has lost its queue",
            "orphans": {name: _listed(each) for name, each in self.orphans.items() if each.count},
        }

    def lines(self) -> Iterator[str]:
        """Yield a line for each finding, and for the ids of some events and orders."""
        name = self.service.name
        if self.lost.count:
            yield f"{name}: {self.lost.count} events that it has published are not in its outbox"
            yield from _ids(self.lost.ids)
        if self.missing:
            account = self.account
            empty = ": its inbox is empty" if account and account.first is None else ""
            yield f"{name}: {self.missing} events were sent to it, and are lost{empty}"
            yield from _ids([event.id for event in account.missing] if account else [])
        for service, each in self.orphans.items():
            if each.count:
                yield f"{name}: {each.count} orders that the {service} service has do not exist"
                yield from _ids(each.ids)
        if self.account and self.account.unproven:
            count = self.account.counts[Place.IN_FLIGHT]
            yield f"{name}: {count} events count as in flight: {self.account.unproven}"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The conditions of the services, and the queues that the broker has lost."""

    conditions: Sequence[Condition]
    lost_queues: Sequence[str]
    #: The commands whose entries in the warehouse do not exist. Healing cannot restore these
    #: entries.
    lost_entries: Sequence[Entered] = ()

    @property
    def behind(self) -> list[str]:
        """The names of the services to heal, and of the broker, in the order of healing."""
        broker = ["broker"] if self.lost_queues else []
        return broker + [each.service.name for each in self.conditions if each.is_behind]

    def document(self) -> dict[str, Any]:
        """Return the findings as one JSON document."""
        return {
            "behind": self.behind,
            "lost_queues": list(self.lost_queues),
            "lost_entries": [entered.document() for entered in self.lost_entries],
            "services": [condition.document() for condition in self.conditions],
        }

    def lines(self) -> Iterator[str]:
        """Yield the findings as lines."""
        for queue in self.lost_queues:
            yield f"broker: {queue} does not exist"
        for condition in self.conditions:
            yield from condition.lines()
        yield from entry_lines(self.lost_entries)


def entry_lines(lost: Sequence[Entered]) -> Iterator[str]:
    """Yield the lines that report all lost entries of the warehouse."""
    if lost:
        yield f"{INVENTORY.name}: {len(lost)} entries of the warehouse are lost; enter them again:"
        yield from (f"  {entered}" for entered in lost)


def check(
    settings: LedgerSettings,
    books: Books,
    services: Sequence[Service],
    *,
    since: datetime | None,
    effort: Effort,
) -> Findings:
    """Return the conditions of these services, from events and orders since a time, if given.

    Changes nothing, but may hold retries as a reconciliation does. Raises `ActionError`, and the
    errors of the databases.
    """
    lost_queues = _lost_queues(settings)
    receivers = [] if lost_queues else [s for s in services if s in RECEIVERS]
    accounts = reconciliation.reconcile(
        settings, books, receivers=receivers, since=since, effort=effort
    )
    by_name = {account.service.name: account for account in accounts}
    conditions = {s.name: Condition(service=s, account=by_name.get(s.name)) for s in services}
    senders = [service for service in services if service.publishes]
    if senders and not lost_queues:
        for sender, batch in lost(settings, books, senders, since or "first"):
            conditions[sender.name].lost.add([each.id for each in batch])
    if order := conditions.get(ORDER.name):
        after = lowest_id(since) if since else UUID(int=0)
        order.orphans |= orphans(books, after, effort.pause)
    return Findings(
        conditions=list(conditions.values()),
        lost_queues=lost_queues,
        lost_entries=lost_entries(books, since=since) if INVENTORY.name in conditions else (),
    )


def _lost_queues(settings: BrokerAdminSettings) -> list[str]:
    with Management(settings) as broker:
        existing = state.totals(broker) if broker.has_vhost() else {}
    wanted = [*(s.queue for s in RECEIVERS if s.consumes), ORDER.bus.stream]
    return [queue for queue in wanted if queue not in existing]


def _listed(named: Named) -> dict[str, Any]:
    return {"count": named.count, "ids": [str(each) for each in named.ids]}


def _ids(ids: Sequence[UUID]) -> Iterator[str]:
    yield from (f"  {each}" for each in ids[:LISTED])
    if len(ids) > LISTED:
        yield "  and more: see --json"
