"""Events for the fraud check's queue, published and read back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from common.events import Data, Line, OrderCreated
from common.kombu_topology import EVENTS, FRAUD
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from testkit.servers.vhosts import Vhost

NOW = datetime.now(UTC)
LINES = (Line(sku="TEA", quantity=1, unit_price=5),)
ORDERED: dict[str, Any] = {"customer_email": "ada@example.com", "currency": "EUR", "total": 5}


def created(number: int, *, age: timedelta = timedelta()) -> Event:
    """Return an `order.created` event whose id is the number."""
    return an_event(number, OrderCreated(lines=LINES, **ORDERED), age=age)


def an_event(number: int, data: Data, *, age: timedelta = timedelta()) -> Event:
    """Return an event whose id is the number; equal arguments return equal events."""
    return Event(
        id=UUID(int=number),
        source="order",
        subject=UUID(int=number + 1_000),
        sequence=1,
        time=NOW - age,
        data=data,
    )


def publish(
    broker: Vhost,
    *events: Event,
    traceparent: str | None = None,
    exchange: str = EVENTS.name,
    routing_key: str | None = None,
) -> None:
    """Publish events as a relay does, or directly to a queue through another exchange."""
    for event in events:
        broker.publish(
            codec.wrap(codec.encode(event)),
            exchange=exchange,
            routing_key=routing_key or event.type,
            headers=dict(task_headers(str(event.id), event.type, traceparent)),
            message_id=str(event.id),
            correlation_id=str(event.subject),
            type=event.type,
            app_id="order",
            timestamp=int(event.time.timestamp()),
        )


def empty(broker: Vhost) -> None:
    """Delete every message of the queue."""
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}/contents")


def events_on(broker: Vhost) -> list[Event]:
    """Return the events in the queue, oldest first, without removing them."""
    return [codec.decode(json.loads(m.body)[1]["event"]) for m in broker.messages(FRAUD.queue)]


def numbers_on(broker: Vhost) -> list[int]:
    """Return the numbers of the events in the queue, oldest first."""
    return [event.id.int for event in events_on(broker)]
