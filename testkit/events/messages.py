"""The contents of messages."""

import json
from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from kombu.message import Message

from eventbus.events import codec
from eventbus.events.envelope import Event
from testkit.eventually import PATIENCE
from testkit.servers.vhosts import Vhost


def take(broker: Vhost, queue: str) -> list[Message]:
    """Remove and return every message of a queue, oldest first."""
    messages: list[Message] = []
    with broker.connect() as connection:
        channel = connection.channel()
        count = channel.queue_declare(queue, passive=True).message_count
        channel.basic_consume(queue, no_ack=True, callback=messages.append)
        while len(messages) < count:
            connection.drain_events(timeout=PATIENCE)
    return messages


def ids(messages: Iterable[Message]) -> list[UUID]:
    """Return the ids of the messages, which are their events' ids."""
    return [UUID(message.properties["message_id"]) for message in messages]


def event_in(message: Message) -> Event:
    """Return the event that a message carries."""
    return codec.decode(json.loads(message.body)[1]["event"])


def sequences(messages: Iterable[Message]) -> dict[UUID, list[int]]:
    """Return each order's sequence numbers, sorted by first arrival."""
    by_order: dict[UUID, list[int]] = defaultdict(list)
    for event in map(event_in, messages):
        if event.sequence not in by_order[event.subject]:
            by_order[event.subject].append(event.sequence)
    return by_order


def in_queue(broker: Vhost, queue: str, count: int) -> None:
    """Require this many ready messages in a queue."""
    assert broker.depth(queue) == count
