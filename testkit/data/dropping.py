"""A service whose queue drops events, with its published and its handled events."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select

from common.events import Line, OrderCreated
from eventbus.catch_up.catch_up import CatchUp
from eventbus.consumer.inbox import inbox
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import Service
from testkit.data.inboxes import first_delivery
from testkit.processes.publishers import publish_and_settle
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


def limit(broker: Vhost, service: Service, length: int) -> None:
    """Limit the length of a service's queue by a policy, as an operator does."""
    pattern = f"^{service.queue}$".replace(".", r"\.")
    policy = {"pattern": pattern, "definition": {"max-length": length}, "apply-to": "queues"}
    broker.request("PUT", f"/policies/{broker.name}/full", json=policy)


def created(number: int, *, age: timedelta = timedelta()) -> Event:
    """Return an `order.created` event whose id is the number."""
    lines = (Line(sku="TEA", quantity=1, unit_price=5),)
    data = OrderCreated(lines=lines, customer_email="a@example.com", currency="EUR", total=5)
    time = datetime.now(UTC) - age
    subject = UUID(int=number + 1_000_000)
    return Event(
        id=UUID(int=number), source="order", subject=subject, sequence=1, time=time, data=data
    )


@dataclass
class Subscriber:
    """One service on a test's broker and database."""

    service: Service
    broker: Vhost
    sessions: Sessions
    settings: ServiceSettings
    #: The number of effects of each event.
    effects: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(
        cls,
        service: Service,
        servers: Infrastructure,
        broker: Vhost,
        database: TestDatabase,
        sessions: Sessions,
    ) -> "Subscriber":
        """Return the service, with its own broker user."""
        settings = ServiceSettings(
            broker_port=broker.amqp_port,
            broker_vhost=broker.name,
            broker_user=service.name,
            broker_password=(servers.secrets_dir / f"{service.name}.broker").read_text().strip(),
            broker_ca_file=broker.ca_file,
            **database.settings,
        )
        return cls(service, broker, sessions, settings)

    def catch_up(self) -> CatchUp:
        """Return the catch-up of its relay or mailer process."""
        return CatchUp.from_settings(self.service, self.settings)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Keep a consumer on the queue during the block, as an idle worker does."""
        with self.broker.connect() as connection:
            connection.channel().basic_consume(self.service.queue)
            yield

    def handle(self) -> int:
        """Handle the ready messages of the queue, and return their number."""
        messages = 0
        with self.broker.connect() as connection:
            channel = connection.channel()
            while (message := channel.basic_get(self.service.queue)) is not None:
                event = codec.decode(json.loads(message.body)[1]["event"])
                with transaction(self.sessions) as session:
                    if first_delivery(session, event, attempts=1):
                        self.effects[event.id.int] += 1
                channel.basic_ack(message.delivery_tag)
                messages += 1
        return messages

    def handled(self) -> set[int]:
        """Return the numbers of the events in its inbox."""
        with transaction(self.sessions) as session:
            return {event_id.int for event_id in session.scalars(select(inbox.c.event_id))}


def outgoing(event: Event) -> Outgoing:
    """Return an event in the form that a publisher accepts."""
    return Outgoing(event.id, event.type, codec.encode(event).decode(), event.subject)


def publish(publisher: ConfirmingPublisher, *events: Event) -> None:
    """Publish events as a relay does. The broker must confirm every event."""
    report = publish_and_settle(publisher, map(outgoing, events))
    assert (report.error, report.refused, report.returned) == (None, set(), {})
    assert report.confirmed == {event.id for event in events}
