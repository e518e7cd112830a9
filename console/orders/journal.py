"""The journal of orders: their events in the outboxes, and the handling by each service."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common.kombu_topology import CONSUMERS
from console.databases.service_database import reading
from console.errors import first_line
from console.ledger.books import SENDERS, Books
from eventbus.consumer.inbox import inbox
from eventbus.outbox import lag
from eventbus.outbox.lag import RelayPass
from eventbus.outbox.lanes import BEHIND, REPAIR
from eventbus.outbox.table import outbox
from eventbus.topology.service import Service

#: Maximum number of events that are read from one outbox or inbox, oldest first. An order has a few
#: events.
LIMIT = 2_000

#: Seconds without a pass after which a relay counts as stopped; normally, a pass takes place every
#: second.
STOPPED_AFTER = 15.0


_COLUMNS = (
    outbox.c.event_id,
    outbox.c.type,
    outbox.c.subject,
    outbox.c.created_at,
    outbox.c.sent_at,
    outbox.c.waits_for,
    outbox.c.unroutable_reason,
)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """An event of an order. `sent_at` is None until the broker has confirmed it.

    `problem` states why it is not sent, and is empty if it is sent.
    """

    id: UUID
    type: str
    order_id: UUID
    source: str
    created_at: datetime
    sent_at: datetime | None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Handled:
    """The handling of an event by one service, and the number of attempts."""

    handled_at: datetime
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Inbox:
    """The events of these orders that one service has handled.

    `first` is the lowest id of all events that the service has handled, or None.
    """

    handled: Mapping[UUID, Handled]
    first: UUID | None


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The events of orders, sorted by their creation, and the inboxes by service.

    `unread` contains the problem of each database that could not be read, by service.
    """

    events: tuple[Sent, ...]
    inboxes: Mapping[str, Inbox]
    unread: Mapping[str, str]


def read(
    books: Books, order_ids: Sequence[UUID], *, services: Sequence[Service] = CONSUMERS
) -> Journal:
    """Return the journal of these orders, in the outboxes and in the inboxes of these services."""
    events: list[Sent] = []
    inboxes: dict[str, Inbox] = {}
    unread: dict[str, str] = {}
    for service in dict.fromkeys((*SENDERS, *services)):
        try:
            with reading(books.databases[service.name]) as session:
                if service in SENDERS:
                    events += _sent(session, service, order_ids)
                if service in services:
                    inboxes[service.name] = _inbox(session, order_ids)
        except DBAPIError as error:
            unread[service.name] = first_line(error.orig or error)
    events.sort(key=lambda event: event.created_at)
    return Journal(events=tuple(events), inboxes=inboxes, unread=unread)


def _sent(session: Session, source: Service, order_ids: Sequence[UUID]) -> Iterator[Sent]:
    # No index has this sort order, so only the index of subjects can be used.
    query = select(*_COLUMNS).order_by(outbox.c.created_at, outbox.c.event_id).limit(LIMIT)
    rows = session.execute(query.where(outbox.c.subject.in_(order_ids))).all()
    is_waiting = any(row.sent_at is None for row in rows)
    last_pass = lag.relay_pass(session) if is_waiting else None
    for row in rows:
        yield Sent(
            id=row.event_id,
            type=row.type,
            order_id=row.subject,
            source=source.name,
            created_at=row.created_at,
            sent_at=row.sent_at,
            problem="" if row.sent_at else _problem(source, row, last_pass),
        )


def _problem(source: Service, row: Row[*tuple[Any, ...]], last_pass: RelayPass | None) -> str:
    relay = f"{source.name}-relay"
    if last_pass is None or last_pass.seconds_ago > STOPPED_AFTER:
        return f"{relay} is not running"
    if row.unroutable_reason:
        return f"the broker returns it: {row.unroutable_reason}"
    if row.waits_for == BEHIND:
        return "an earlier event of the order is unsent"
    if row.waits_for == REPAIR:
        return f"it cannot be published; see the log of {relay}"
    if row.waits_for:
        return f"the broker refuses {row.waits_for}: a queue is full or has no quorum"
    if last_pass.broker_error:
        return f"{relay} cannot publish: {last_pass.broker_error}"
    return f"{relay} has not published it yet"


def _inbox(session: Session, order_ids: Sequence[UUID]) -> Inbox:
    columns = (inbox.c.event_id, inbox.c.handled_at, inbox.c.attempts)
    query = select(*columns).order_by(inbox.c.occurred_at, inbox.c.event_id).limit(LIMIT)
    rows = session.execute(query.where(inbox.c.subject.in_(order_ids)))
    first = select(inbox.c.event_id).order_by(inbox.c.event_id).limit(1)
    return Inbox(
        handled={
            event_id: Handled(handled_at=handled_at, attempts=attempts)
            for event_id, handled_at, attempts in rows
        },
        first=session.scalar(first),
    )
