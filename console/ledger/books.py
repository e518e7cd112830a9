"""The ledger's sources: outboxes and inboxes, read in small read-only transactions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select

from analytics_worker.models import SkippedRow
from common.kombu_topology import CONSOLE, SERVICES
from console.broker.parked_message import Parked
from console.databases.service_database import pooled, reading, sessions
from console.ledger.account import OutboxEvent
from console.models import DiscardRow
from console.parking.index import rows
from console.settings import DatabaseServer
from eventbus.catch_up import overflow
from eventbus.catch_up.overflow import Overflow
from eventbus.consumer.inbox import already_handled, inbox
from eventbus.database.db import Sessions
from eventbus.messaging import untrusted
from eventbus.outbox.table import outbox
from eventbus.topology.service import Service

#: Maximum number of rows of a page, which one transaction reads in a few milliseconds.
PAGE = 1_000

#: Connections to each database that are kept.
_KEPT = 2

#: The services that have an outbox.
SENDERS = tuple(service for service in SERVICES if service.publishes)

#: The services that have an inbox.
RECEIVERS = tuple(service for service in SERVICES if service.consumes or service.reads_stream)


class Row(NamedTuple):
    """An event of an outbox, its position there, and the start of its transaction."""

    position: int
    created_at: datetime
    event: OutboxEvent


class Books:
    """The outboxes and inboxes of all services, and the discarded messages.

    Each method is one transaction.
    """

    def __init__(self, databases: Mapping[str, Sessions]) -> None:
        #: The databases, by the service's name.
        self.databases = databases

    @classmethod
    @contextmanager
    def opened(cls, settings: DatabaseServer) -> "Iterator[Books]":
        """Open the databases of all services; connections are opened at the first query."""
        with ExitStack() as stack:
            opened = {
                s.name: stack.enter_context(sessions(settings, s)) for s in (*SERVICES, CONSOLE)
            }
            yield cls(opened)

    @classmethod
    def kept(cls, settings: DatabaseServer) -> "Books":
        """Return the books with connections that are kept, for pages; connects at first use."""
        return cls({s.name: pooled(settings, s, pool_size=_KEPT) for s in (*SERVICES, CONSOLE)})

    def page(self, sender: Service, after: UUID) -> list[OutboxEvent]:
        """Return the events of an outbox whose ids follow `after`, sorted, at most `PAGE`."""
        query = (
            select(outbox.c.event_id, outbox.c.type, outbox.c.sent_at)
            .where(outbox.c.event_id > after)
            .order_by(outbox.c.event_id)
            .limit(PAGE)
        )
        with reading(self.databases[sender.name]) as session:
            return [OutboxEvent(*row) for row in session.execute(query)]

    def find(self, sender: str, ids: Sequence[UUID]) -> list[OutboxEvent]:
        """Return the given events that an outbox contains; at most `PAGE` ids."""
        query = select(outbox.c.event_id, outbox.c.type, outbox.c.sent_at)
        with reading(self.databases[sender]) as session:
            rows = session.execute(query.where(outbox.c.event_id.in_(ids)))
            return [OutboxEvent(*row) for row in rows]

    def last(self, sender: Service) -> int:
        """Return the highest position in an outbox, 0 if it is empty."""
        with reading(self.databases[sender.name]) as session:
            return session.scalar(select(func.max(outbox.c.id))) or 0

    def appended(self, sender: Service, position: int) -> list[Row]:
        """Return the rows that were appended to an outbox after a position, at most `PAGE`."""
        columns = (outbox.c.id, outbox.c.created_at, outbox.c.event_id, outbox.c.type)
        query = (
            select(*columns, outbox.c.sent_at)
            .where(outbox.c.id > position)
            .order_by(outbox.c.id)
            .limit(PAGE)
        )
        with reading(self.databases[sender.name]) as session:
            rows = session.execute(query)
            return [Row(at, created_at, OutboxEvent(*event)) for at, created_at, *event in rows]

    def handled(self, receiver: Service, ids: Sequence[UUID]) -> set[UUID]:
        """Return the given events that a service has handled; at most `PAGE` ids."""
        if not ids:
            return set()
        with reading(self.databases[receiver.name]) as session:
            return already_handled(session, ids)

    def skipped(self, receiver: Service) -> set[UUID]:
        """Return the events that a reader of the stream has recently skipped, at most `PAGE`."""
        query = select(SkippedRow.body).order_by(SkippedRow.id.desc()).limit(PAGE)
        with reading(self.databases[receiver.name]) as session:
            bodies = session.scalars(query).all()
        return set(uuids(untrusted.envelope(body).get("id") for body in bodies))

    def discarded(self, receiver: Service, ids: Sequence[UUID]) -> set[UUID]:
        """Return the given events that were discarded for a service; at most `PAGE` ids."""
        query = select(DiscardRow.event_id).where(
            DiscardRow.event_id.in_([str(event_id) for event_id in ids]),
            DiscardRow.service == receiver.name,
        )
        with reading(self.databases[CONSOLE.name]) as session:
            return set(uuids(session.scalars(query)))

    def indexed(self, receiver: Service, ids: Iterable[UUID]) -> dict[UUID, Parked] | None:
        """Return the given events that are in the index of a parking lot; None without an index."""
        with reading(self.databases[CONSOLE.name]) as session:
            if rows.lot(session, receiver.name) is None:
                return None
            found = rows.of_events(session, receiver.name, [str(event_id) for event_id in ids])
            return {UUID(parked.id): parked for parked in found}

    def first(self, receiver: Service) -> UUID | None:
        """Return the lowest id in a service's inbox, or None."""
        query = select(inbox.c.event_id).order_by(inbox.c.event_id).limit(1)
        with reading(self.databases[receiver.name]) as session:
            return session.scalar(query)

    def overflow(self, receiver: Service) -> Overflow | None:
        """Return a service's record of dropped events, or None if its queue never drops events."""
        if not receiver.can_overflow:
            return None
        with reading(self.databases[receiver.name]) as session:
            return overflow.read(session)[0]


def lowest_id(moment: datetime) -> UUID:
    """Return a UUIDv7 below the id of every event that was appended since a time."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def uuids(values: Iterable[object]) -> Iterator[UUID]:
    """Yield the values that are ids. Other messages are not events of an outbox."""
    for value in values:
        with suppress(ValueError):
            yield UUID(str(value))
