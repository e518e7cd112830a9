"""Repair of missing events: each is published again, but only to the service that lacks it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
from amqp import Message
from sqlalchemy import select

from console.broker.backfill import Copies
from console.broker.connection import connected
from console.databases.service_database import reading
from console.ledger.account import Account, OpenEvent
from console.ledger.books import Books
from console.settings import BrokerAdminSettings
from eventbus.events import codec
from eventbus.events.conversion import convert
from eventbus.events.versions import versions
from eventbus.messaging.event_message import task_headers
from eventbus.outbox.table import outbox
from eventbus.topology.service import Service

#: Number of events that are published together.
BATCH = 100


class Republished(NamedTuple):
    """An event that was published again, and the service whose queue received it."""

    service: str
    event: OpenEvent


def republish(
    settings: BrokerAdminSettings,
    books: Books,
    accounts: Sequence[Account],
    *,
    replayed: bool = False,
) -> Iterator[Republished]:
    """Publish the missing events of these accounts; yield each event that the broker confirms.

    The message has the id, the headers and the body of the relay's message, so the service handles
    the event at most once. With `replayed`, the events are marked as history. Events that the
    service has handled in the meantime are omitted. Raises `ActionError` if the broker refuses a
    message; another run publishes the remaining events.
    """
    for account in accounts:
        if account.missing:
            with connected(settings) as connection:
                copies = Copies(connection, _target(account.service))
                for start in range(0, len(account.missing), BATCH):
                    batch = account.missing[start : start + BATCH]
                    yield from _republish(books, copies, account.service, batch, replayed)


def _republish(
    books: Books, copies: Copies, service: Service, events: Sequence[OpenEvent], replayed: bool
) -> Iterator[Republished]:
    handled = books.handled(service, [event.id for event in events])
    texts = _texts(books, [event for event in events if event.id not in handled])
    known = [event for event in events if event.id in texts]
    mark = _replayed if replayed else str
    copies.put([_message(service, event, mark(texts[event.id])) for event in known])
    for event in known:
        yield Republished(service.name, event)


def _texts(books: Books, events: Sequence[OpenEvent]) -> dict[UUID, str]:
    """Return the envelopes of the given events that the outboxes still contain, as JSON."""
    by_outbox: defaultdict[str, list[UUID]] = defaultdict(list)
    for event in events:
        by_outbox[event.outbox].append(event.id)
    texts: dict[UUID, str] = {}
    for sender, ids in by_outbox.items():
        query = select(outbox.c.event_id, outbox.c.event).where(outbox.c.event_id.in_(ids))
        with reading(books.databases[sender]) as session:
            texts |= {row.event_id: row.event for row in session.execute(query)}
    return texts


def _message(service: Service, event: OpenEvent, text: str) -> Message:
    event_type, text = _consumed_version(service, event, text)
    event_id, body = str(event.id), codec.wrap(text.encode())
    return Message(
        body,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=2,
        message_id=event_id,
        correlation_id=codec.subject(body),
        type=event_type,
        app_id=event.outbox,
        application_headers=task_headers(event_id, event_type, codec.traceparent(text)),
    )


def _replayed(text: str) -> str:
    return msgspec.json.encode({**msgspec.json.decode(text), "replayed": True}).decode()


def _consumed_version(service: Service, event: OpenEvent, text: str) -> tuple[str, str]:
    """Return an event's type and envelope, in a version that is routed to the service."""
    if service.reads_stream or event.type in service.consumed_types:
        return event.type, text
    facts = versions(event.type)
    event_type = next(version for version in service.consumed_types if version in facts)
    decoded = codec.decode(msgspec.json.decode(text))
    return event_type, codec.encode(convert(decoded, event_type)).decode()


def _target(service: Service) -> str:
    return service.bus.stream if service.reads_stream else service.queue
