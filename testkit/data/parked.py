"""Parked messages of the inventory."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from amqp import Channel, Message

from common.events import Line, OrderCreated
from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from eventbus.events import codec
from eventbus.events.envelope import Event
from testkit.eventually import becomes
from testkit.processes.orderctl import orderctl


def park(
    channel: Channel,
    event_id: str,
    *,
    time: str | None = None,
    exception: str = "ValueError",
    frame: str = "",
    release: str = "r1",
    failed_at: datetime | None = None,
    event: Mapping[str, object] | None = None,
    **properties: Any,
) -> None:
    """Park a message as the consumer runtime does; `time` is the event's time in ISO 8601.

    `failed_at` is the time of its failure, by default now. `event` adds attributes of the envelope.
    """
    cause = Cause(Verdict.RETRY, exception, "no\nway", frame)
    failure = Failure.of(cause, service="inventory", release=release, headers={})
    if failed_at:
        failure = replace(failure, first_at=failed_at.isoformat(), last_at=failed_at.isoformat())
    headers = {"task": "order.created", "id": event_id, "retries": 5} | failure.to_headers()
    envelope = {"subject": "an-order"} | ({"time": time} if time else {}) | dict(event or {})
    body = json.dumps([[], {"event": envelope}, {}]).encode()
    message = Message(body, application_headers=headers, message_id=event_id, **properties)
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")


def park_created(channel: Channel, **more: Any) -> UUID:
    """Park a valid `order.created` of one unit of `TEA`, and return the event's id."""
    line = Line(sku="TEA", quantity=1, unit_price=100)
    data = OrderCreated(customer_email="ada@example.com", currency="EUR", total=100, lines=(line,))
    created = Event(source="order", subject=uuid4(), sequence=1, data=data)
    event = json.loads(codec.encode(created)) | more.pop("event", {})
    park(channel, str(created.id), type="order.created", event=event, **more)
    return created.id


def parked(env: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    """Return the parked messages as `orderctl parked list --json` lists them."""
    result = orderctl(env, "parked", "list", "inventory", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def drained(channel: Channel, queue: str) -> list[Message]:
    """Remove and return the ready messages of a queue, oldest first."""
    messages = []
    while (message := channel.basic_get(queue, no_ack=True)) is not None:
        messages.append(message)
    return messages


def parked_messages(channel: Channel) -> list[Message]:
    """Remove and return the messages of the parking lot, at least one, oldest first."""
    messages = drained(channel, "inventory.dlq")
    assert messages
    return messages


@contextmanager
def held(channel: Channel, count: int) -> Iterator[Callable[[], None]]:
    """Hold all `count` parked messages during the block, as another reader does.

    Yields a function that returns them to the queue before the end of the block.
    """

    def ready() -> int:
        return int(channel.queue_declare("inventory.dlq", passive=True).message_count)

    becomes(ready, count)
    holder = channel.connection.channel()
    arrived: list[Message] = []
    holder.basic_consume("inventory.dlq", callback=arrived.append)
    while len(arrived) < count:
        holder.connection.drain_events(timeout=30)

    def release() -> None:
        if holder.connection is not None:
            holder.close()
            becomes(ready, count)

    try:
        yield release
    finally:
        release()
