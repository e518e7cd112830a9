"""A system whose events a test publishes, handles, parks and loses, and the ledger's view of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select, text

from common.kombu_topology import ANALYTICS, SERVICES
from console.broker.parked_message import event_id
from console.ledger import reconciliation
from console.ledger.account import Account, Place
from console.ledger.books import Books
from console.ledger.reconciliation import Effort
from console.settings import LedgerSettings
from eventbus.consumer.inbox import inbox
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.message_copy import copy_of, own_headers
from eventbus.outbox.relay import Relay
from eventbus.outbox.table import outbox
from eventbus.topology.service import PARKED, Service, tier_key
from testkit.data.inboxes import first_delivery
from testkit.data.outboxes import CREATED, drain_all, event, record
from testkit.servers.vhosts import Vhost


@dataclass
class AccountedSystem:
    """Outboxes, inboxes and queues without processes: the test takes each step itself."""

    settings: LedgerSettings
    #: The environment of `orderctl` for it.
    environment: Mapping[str, str]
    broker: Vhost
    databases: Mapping[str, Sessions]
    relay: Relay

    def publish(self, count: int) -> list[UUID]:
        """Publish new `order.created` events as the order relay does, and return their ids."""
        ids = record(self.databases["order"], *(event(CREATED) for _ in range(count)))
        drain_all(self.relay, self.databases["order"])
        return ids

    def handle(self, service: Service, count: int | None = None) -> None:
        """Handle the ready messages of a service's queue, or the oldest `count` of them."""
        with self.broker.connect() as connection:
            channel = connection.channel()
            while (count is None or count > 0) and (
                message := channel.basic_get(service.queue)
            ) is not None:
                count = None if count is None else count - 1
                with transaction(self.databases[service.name]) as session:
                    received = codec.decode(json.loads(message.body)[1]["event"])
                    first_delivery(session, received, attempts=1)
                channel.basic_ack(message.delivery_tag)

    def deliver(self, service: Service, event: Event) -> None:
        """Record one event in a service's inbox."""
        with transaction(self.databases[service.name]) as session:
            first_delivery(session, event, attempts=1)

    def handle_all(self) -> None:
        """Handle the ready messages of all queues, and read the entire stream."""
        self.handle_queues()
        self.read_stream()

    def handle_queues(self, *, but: Service | None = None) -> None:
        """Handle the ready messages of the queues of all services except one."""
        for service in SERVICES:
            if service.consumes and service is not but:
                self.handle(service)

    def read_stream(self) -> None:
        """Record every event of the order service in the inbox of the analytics service."""
        for sent in self.events():
            self.deliver(ANALYTICS, sent)

    def move(self, service: Service, key: str, count: int) -> list[str]:
        """Move messages from a service's queue to its parking lot or a tier. Return their ids."""
        ids = []
        with self.broker.connect(confirm_publish=True) as connection:
            channel = connection.channel()
            for _ in range(count):
                message = channel.basic_get(service.queue)
                if message is None:
                    break
                ids.append(event_id(message))
                copy = copy_of(message.body, message.properties, own_headers(message.headers))
                channel.basic_publish(copy, exchange=service.retry_exchange, routing_key=key)
                channel.basic_ack(message.delivery_tag)
        return ids

    def park(self, service: Service, count: int) -> list[str]:
        """Park messages of a service's queue, and return their ids."""
        return self.move(service, PARKED, count)

    def retry(self, service: Service, count: int, seconds: float) -> list[str]:
        """Move messages of a service's queue to a retry tier, and return their ids."""
        return self.move(service, tier_key(seconds), count)

    def purge(self, service: Service) -> None:
        """Delete the ready messages of a service's queue, as an operator may by mistake."""
        self.broker.request("DELETE", f"/queues/{self.broker.name}/{service.queue}/contents")

    def forget(self, service: Service, ids: Iterable[UUID]) -> None:
        """Delete rows of a service's inbox."""
        with transaction(self.databases[service.name]) as session:
            session.execute(delete(inbox).where(inbox.c.event_id.in_(list(ids))))

    def run(self, service: str, sql: str, **parameters: object) -> None:
        """Run a statement in a service's database."""
        with transaction(self.databases[service]) as session:
            session.execute(text(sql), parameters)

    def events(self) -> list[Event]:
        """Return the events of the order service's outbox."""
        with transaction(self.databases["order"]) as session:
            rows = session.scalars(select(outbox.c.event).order_by(outbox.c.id)).all()
        return [codec.decode(json.loads(row)) for row in rows]

    def accounts(self, effort: Effort | None = None) -> dict[str, Account]:
        """Return the accounts of all services, by name."""
        with Books.opened(self.settings) as books:
            found = reconciliation.reconcile(self.settings, books, effort=effort or patient())
        return {account.service.name: account for account in found}


def patient(search: float = 60.0) -> Effort:
    """Return limits for a test: no time for messages in flight, and enough time for the search."""
    return Effort(pause=0, settling=0, search=search)


def brief() -> Effort:
    """Return limits for a search that cannot complete a proof."""
    return patient(3.0)


def missing(account: Account) -> set[UUID]:
    """Return the ids of the missing events."""
    return {event.id for event in account.missing}


def places(account: Account) -> dict[Place, int]:
    """Return the number of events in each place that is not empty."""
    return {place: count for place, count in account.counts.items() if count}
