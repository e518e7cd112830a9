"""The evidence about a campaign: the contents of databases, stream and mailbox at its end."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from common.kombu_topology import SERVICES, STREAM
from console.ledger import agreement, reconciliation
from console.ledger.account import Account
from console.ledger.agreement import Disagreements
from console.ledger.books import Books
from console.ledger.reconciliation import Effort
from console.ledger.repair import republish
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging import stream
from inventory_worker import movements
from testkit.campaign.history import Request
from testkit.campaign.nemesis import Injection
from testkit.campaign.rest import wait_until_at_rest
from testkit.campaign.system import System
from testkit.processes.stack import Stack
from testkit.servers.vhosts import Vhost
from testkit.system.ledger_settings import ledger_settings

#: Limits of the ledger in seconds. The search of the queues takes about fifteen.
_EFFORT = Effort(pause=0.0, settling=10.0, search=90.0)

#: Seconds to wait for the next messages of the stream, which are known to exist.
_PATIENCE = 30.0

_ORDERS = """
SELECT id::text, customer_email, status, reason, total,
    extract(epoch FROM deadline_at)::float, extract(epoch FROM decided_at)::float,
    (SELECT json_object_agg(sku, quantity) FROM order_lines WHERE order_id = orders.id)
FROM orders
"""
_EVENTS = """
SELECT event_id::text, type, subject::text, event::json->>'source',
    (event::json->>'sequence')::int, event::json->>'causationid',
    extract(epoch FROM sent_at)::float
FROM outbox ORDER BY id
"""
_STOCK = "SELECT sku, on_hand::int, reserved::int FROM stock"
_NOTIFICATIONS = "SELECT order_id::text, kind, status, message_id FROM notifications"
_FIGURES = """
SELECT coalesce(sum(placed), 0)::int, coalesce(sum(confirmed), 0)::int,
    coalesce(sum(revenue), 0)::int, coalesce(sum(rejected), 0)::int,
    coalesce(sum(cancelled), 0)::int
FROM minutes
"""


@dataclass(frozen=True)
class StoredOrder:
    """An order in the database; times are seconds since the epoch."""

    id: str
    email: str
    status: str
    reason: str | None
    total: int
    deadline_at: float
    decided_at: float | None
    #: The quantity of each SKU in the order.
    lines: Mapping[str, int]


@dataclass(frozen=True)
class StoredEvent:
    """An event in an outbox; `sent_at` is in seconds since the epoch."""

    id: str
    type: str
    subject: str
    source: str
    sequence: int
    cause: str | None
    sent_at: float | None


@dataclass(frozen=True)
class Mail:
    """A notification in the database."""

    order_id: str
    kind: str
    status: str
    message_id: str | None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The data that the checks of a campaign read."""

    requests: Sequence[Request]
    injected: Sequence[Injection]
    #: The units of each SKU that the warehouse received.
    received: Mapping[str, int]
    #: Number of events that faults have sent again, and number of starts of the mailer after the
    #: first.
    resent: int
    mailer_restarts: int
    orders: Sequence[StoredOrder]
    #: The events by outbox, in the order in which they were recorded.
    events: Sequence[StoredEvent]
    #: The messages of the stream, the oldest first.
    published: Sequence[Event]
    #: The units on hand, and reserved, of each SKU.
    levels: Mapping[str, tuple[int, int]]
    #: The SKUs whose level is not the sum of their movements.
    unexplained_levels: Sequence[str]
    notifications: Sequence[Mail]
    #: The number of emails that arrived with each Message-ID.
    mails: Mapping[str, int]
    #: The analytics service's figures: placed, confirmed, revenue, rejected and cancelled.
    figures: tuple[int, ...]
    accounts: Sequence[Account]
    disagreements: Disagreements


def gather(
    system: System,
    requests: Sequence[Request],
    injected: Sequence[Injection],
    received: Mapping[str, int],
    *,
    is_at_rest: bool,
) -> Evidence:
    """Read the evidence of a system that is at rest, or has not come to rest.

    A system appears to be at rest while a worker holds the last messages. The ledger waits for
    these messages, and the worker may die in the meantime.
    """
    stack = system.stack
    settings = ledger_settings(stack)
    with Books.opened(settings) as books:
        with system.supervised():
            accounts = reconciliation.reconcile(settings, books, effort=_EFFORT)
        if is_at_rest:
            wait_until_at_rest(system)
        disagreements = agreement.compare(settings, books, since=None, pause=0)
    with transaction(stack.sessions("inventory")) as session:
        unexplained = [each.level.sku for each in movements.differences(session, 100)]
    return Evidence(
        requests=requests,
        injected=injected,
        received=received,
        resent=system.resent,
        mailer_restarts=system.starts["notification-mailer"] - 1,
        orders=[StoredOrder(*row) for row in _rows(stack, "order", _ORDERS)],
        events=[
            StoredEvent(*row)
            for service in SERVICES
            if service.publishes
            for row in _rows(stack, service.name, _EVENTS)
        ],
        published=list(_published(stack.vhost)),
        levels={sku: (on_hand, held) for sku, on_hand, held in _rows(stack, "inventory", _STOCK)},
        unexplained_levels=unexplained,
        notifications=[Mail(*row) for row in _rows(stack, "notification", _NOTIFICATIONS)],
        mails=Counter(str(message["Message-ID"]) for message in stack.mailbox.messages),
        figures=tuple(_rows(stack, "analytics", _FIGURES)[0]),
        accounts=accounts,
        disagreements=disagreements,
    )


def repair(system: System) -> int:
    """Publish the events again that the ledger finds missing, and return their number."""
    settings = ledger_settings(system.stack)
    with Books.opened(settings) as books, system.supervised():
        accounts = reconciliation.reconcile(settings, books, effort=_EFFORT)
        return len(list(republish(settings, books, accounts)))


def _published(vhost: Vhost) -> Iterator[Event]:
    with vhost.connect() as connection:
        end = stream.end(connection, STREAM)
    with vhost.connect() as connection, closing(_stream(connection)) as source:
        while source.position < end:
            entries = source.read(stream.PREFETCH, _PATIENCE)
            if not entries:
                raise TimeoutError(f"{STREAM} did not deliver its messages in {_PATIENCE:g} s")
            yield from (codec.read(entry.message.body) for entry in entries)


def _stream(connection: Any) -> stream.Stream:
    return stream.Stream(connection, STREAM, "first")


def _rows(stack: Stack, service: str, query: str) -> Sequence[Any]:
    with transaction(stack.sessions(service)) as session:
        return session.execute(text(query)).all()
