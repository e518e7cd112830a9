"""Restoration of a publisher's lost events, and of the records that they describe.

The events were published, and other services have acted on them. They are written to the outbox as
sent, with their ids, so that they are neither published again nor decided differently.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from uuid import UUID

import msgspec
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from console.databases.service_database import reading
from console.errors import ActionError
from console.ledger.books import SENDERS, Books
from console.restore.lost import lost
from console.restore.published import Published
from console.settings import LedgerSettings, role_name
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.stream import Start
from eventbus.outbox.table import outbox
from eventbus.topology.service import Service

_CONNECTIONS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = :role AND pid <> pg_backend_pid()"
)


def restore(
    settings: LedgerSettings,
    books: Books,
    service: Service,
    start: Start,
    *,
    report: Callable[[int], object],
) -> int:
    """Write the service's lost published events and their records; return the number of events.

    Each batch is one transaction, so another run continues. `report` is called with the number so
    far. Raises `ActionError` if events are lost while processes of the service run, because the
    processes would decide differently.
    """
    # The module is imported by name, because the console does not depend on any subscriber.
    records = import_module(f"{service.package}.restoration")
    causes = partial(_causes, books, service)
    count = 0
    for _, batch in lost(settings, books, [service], start):
        if not count:
            _require_stopped(books, service)
        with transaction(books.databases[service.name]) as session:
            written = _write(session, batch)
            events = [each.event for each in batch if each.id in written]
            records.restore(session, events, causes)
        count += len(written)
        report(count)
    return count


def is_running(books: Books, service: Service) -> bool:
    """Return whether a process of the service is connected to its database."""
    with reading(books.databases[service.name]) as session:
        return bool(session.scalar(_CONNECTIONS, {"role": role_name(service.name)}))


def _require_stopped(books: Books, service: Service) -> None:
    if is_running(books, service):
        raise ActionError(
            f"processes of the {service.name} service are connected to its database, and would"
            f" decide again what is restored: stop {', '.join(service.processes)}"
        )


def _write(session: Session, batch: Sequence[Published]) -> set[UUID]:
    now = datetime.now(UTC)
    rows = [
        {
            "event_id": each.id,
            "type": each.event.type,
            "subject": each.event.subject,
            "event": each.envelope,
            "created_at": each.event.time,
            "sent_at": min(each.at, now),
        }
        for each in batch
    ]
    statement = insert(outbox).on_conflict_do_nothing().returning(outbox.c.event_id)
    return set(session.scalars(statement, rows))


def _causes(books: Books, service: Service, ids: Collection[UUID]) -> list[Event]:
    """Return the events with these ids that the outboxes of other services contain."""
    query = select(outbox.c.event).where(outbox.c.event_id.in_(ids))
    texts: list[str] = []
    # The service's own database is not read, because its only connection is in a transaction.
    for sender in (each for each in SENDERS if each is not service):
        with reading(books.databases[sender.name]) as session:
            texts += session.scalars(query)
    return [codec.decode(msgspec.json.decode(each)) for each in texts]
