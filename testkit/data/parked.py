"""Parked messages of the inventory."""

import json
from collections.abc import Mapping
from typing import Any

from amqp import Channel, Message

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from testkit.processes.orderctl import orderctl


def park(
    channel: Channel,
    event_id: str,
    *,
    time: str | None = None,
    exception: str = "ValueError",
    frame: str = "",
    event: Mapping[str, object] | None = None,
    **properties: Any,
) -> None:
    """Park a message as the consumer runtime does; `time` is the event's time in ISO 8601.

    `event` adds attributes of the envelope.
    """
    cause = Cause(Verdict.RETRY, exception, "no\nway", frame)
    failure = Failure.of(cause, service="inventory", release="r1", headers={})
    headers = {"task": "order.created", "id": event_id, "retries": 5} | failure.to_headers()
    envelope = {"subject": "an-order"} | ({"time": time} if time else {}) | dict(event or {})
    body = json.dumps([[], {"event": envelope}, {}]).encode()
    message = Message(body, application_headers=headers, message_id=event_id, **properties)
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")


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
