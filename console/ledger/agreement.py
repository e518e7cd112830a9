"""The comparison of each order with its reservation, its emails and the figures of analytics.

Services agree only when no event is in flight. A disagreement is therefore reported only if it
cannot be the result of an event in flight. First the order is read, and then its events, all of
which the service must have handled. Then the service's facts are read again, and finally the order,
which must not have changed.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select

from common.kombu_topology import ORDER
from console.databases.service_database import reading
from console.ledger.account import Account
from console.ledger.books import Books, lowest_id
from console.ledger.facts import MAILS, OUTCOMES, RESERVATIONS, Comparison, OrderFacts, orders
from console.settings import LedgerSettings
from eventbus.outbox.table import outbox
from order_app.storage.models import OrderRow

#: The number of orders in a page.
PAGE = 500

#: Maximum number of disagreements that are kept. All disagreements are counted.
LIMIT = 1_000


class Disagreement(NamedTuple):
    """An order, the service that disagrees with the order service, and the disagreement."""

    order_id: UUID
    kind: str
    text: str


@dataclass
class Disagreements:
    """The disagreements, sorted by order id, at most `LIMIT`, and their total number."""

    count: int = 0
    listed: list[Disagreement] = field(default_factory=list)
    #: Number of orders that were compared.
    orders: int = 0

    def add(self, found: Disagreement) -> None:
        """Count a disagreement."""
        self.count += 1
        if len(self.listed) < LIMIT:
            self.listed.append(found)


def compare(
    settings: LedgerSettings, books: Books, *, since: datetime | None, pause: float
) -> Disagreements:
    """Return the disagreements about the orders that were placed after `since`.

    Without `since`, compare the orders whose events the outbox still contains.
    """
    found, now = Disagreements(), datetime.now(UTC)
    after = lowest_id(since or now - timedelta(days=settings.outbox_retention_days))
    oldest_mail = now - timedelta(days=settings.notification_retention_days, hours=-1)
    while ids := _page(books, after):
        for comparison in (RESERVATIONS, MAILS, OUTCOMES):
            for disagreement in _compare(books, comparison, ids, oldest_mail):
                found.add(disagreement)
        found.orders += len(ids)
        after = ids[-1]
        if len(ids) < PAGE:
            break
        time.sleep(pause)
    return found


def _page(books: Books, after: UUID) -> Sequence[UUID]:
    query = select(OrderRow.id).where(OrderRow.id > after).order_by(OrderRow.id).limit(PAGE)
    with reading(books.databases[ORDER.name]) as session:
        return session.scalars(query).all()


def _compare(
    books: Books, comparison: Comparison, ids: Sequence[UUID], oldest_mail: datetime
) -> Iterator[Disagreement]:
    candidates = _disagreeing(books, comparison, ids, oldest_mail)
    if not candidates:
        return
    # The order of these reads matters: see the module's docstring.
    before = _orders(books, list(candidates))
    settled = _handled(books, comparison, list(candidates))
    confirmed = _disagreeing(books, comparison, settled, oldest_mail)
    for order_id, (order, text) in confirmed.items():
        if before.get(order_id) == order:
            yield Disagreement(order_id, comparison.service.name, text)


def _disagreeing(
    books: Books, comparison: Comparison, ids: Sequence[UUID], oldest_mail: datetime
) -> dict[UUID, tuple[OrderFacts, str]]:
    """Return the orders that disagree, read after the service's facts, with the reason."""
    if not ids:
        return {}
    with reading(books.databases[comparison.service.name]) as session:
        facts = comparison.read(session, ids)
    problems = {}
    for order in _orders(books, ids).values():
        if comparison is MAILS and order.created_at < oldest_mail:
            continue
        if text := comparison.problem(order, facts.get(order.id)):
            problems[order.id] = order, text
    return problems


def _orders(books: Books, ids: Sequence[UUID]) -> Mapping[UUID, OrderFacts]:
    with reading(books.databases[ORDER.name]) as session:
        return orders(session, ids)


def _handled(books: Books, comparison: Comparison, ids: Sequence[UUID]) -> list[UUID]:
    """Return the orders for which the service has handled every event that it consumes."""
    query = select(outbox.c.subject, outbox.c.event_id, outbox.c.type, outbox.c.sent_at)
    with reading(books.databases[ORDER.name]) as session:
        rows = session.execute(query.where(outbox.c.subject.in_(ids))).all()
    account = Account(service=comparison.service)
    owed: defaultdict[UUID, set[UUID]] = defaultdict(set)
    for row in rows:
        if account.owes(row.type):
            owed[row.subject].add(row.event_id)
    listed = [event_id for events in owed.values() for event_id in events]
    handled: set[UUID] = set()
    for start in range(0, len(listed), PAGE):
        handled |= books.handled(comparison.service, listed[start : start + PAGE])
    # An order without events in the outbox is not compared.
    return [order_id for order_id in ids if owed[order_id] and owed[order_id] <= handled]
