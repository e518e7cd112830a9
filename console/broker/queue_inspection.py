"""The content of a queue or a stream, by event type. Every message stays in place.

A quorum queue counts each inspection as a delivery, and parks a message that was delivered too
often. A message that was inspected several times is therefore returned as a copy, whose count
starts again.
"""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from amqp import Channel, Message
from amqp.exceptions import MessageNacked

from console.broker.settled_counts import give_back, ready
from eventbus.consumer.poison import SUSPECT_FROM
from eventbus.messaging.amqps import Connection
from eventbus.messaging.message_copy import copy_of
from eventbus.messaging.stream import published_at
from eventbus.messaging.untrusted import text

#: Maximum number of messages that are consumed together. They are also returned together, so their
#: order is kept.
LIMIT = 10_000

#: Number of earlier deliveries from which a message is returned as a copy, to the end of its queue.
#: A worker handles such a message alone: see `eventbus.consumer.poison`.
RENEWED_FROM = SUSPECT_FROM + 1

#: The headers with the broker's own counts.
_COUNT = "x-delivery-count"
_COUNTS = (_COUNT, "x-acquired-count")

#: Maximum number of messages read from a stream, which takes a minute or two.
STREAM_LIMIT = 1_000_000

#: Seconds to wait for the next message. If it does not arrive, another consumer has taken it, or
#: the stream has ended.
_DELIVERY_TIMEOUT = 3
_STREAM_PREFETCH = 1_000


@dataclass(kw_only=True)
class Content:
    """The number of messages of each event type; `unseen` more could not be inspected."""

    types: Counter[str] = field(default_factory=Counter)
    unseen: int = 0
    #: The publishing time of the oldest message of each type, in whole seconds, if known.
    oldest: dict[str, datetime] = field(default_factory=dict)

    def note(self, message: Message) -> None:
        """Count a message."""
        event_type = text((message.headers or {}).get("task"))
        self.types[event_type] += 1
        if moment := published_at(message):
            self.oldest.setdefault(event_type, moment)


def inspect_queue(connection: Connection, queue: str, *, limited: bool = True) -> Content:
    """Inspect the ready messages of a queue, the oldest first, at most `LIMIT`.

    Without a delivery limit, no count has to be reset.
    """
    channel = connection.channel()
    depth = ready(channel, queue)
    content, held = Content(unseen=depth), 0
    for message in _take(channel, queue, min(depth, LIMIT)):
        content.unseen -= 1
        content.note(message)
        is_copied = limited and _deliveries(message) >= RENEWED_FROM
        held += not (is_copied and _reset_count(channel, queue, message))
    give_back(connection, queue, channel, held)
    return content


def _deliveries(message: Message) -> int:
    count = (message.headers or {}).get(_COUNT)
    return count if isinstance(count, int) else 0


def _reset_count(channel: Channel, queue: str, message: Message) -> bool:
    # A message that cannot be copied, or whose queue is full, is returned like any other message.
    if copy := renewed(message):
        with suppress(MessageNacked):
            channel.basic_publish(copy, routing_key=queue, mandatory=True, confirm_timeout=15)
            channel.basic_ack(message.delivery_tag)
            return True
    return False


def renewed(message: Message) -> Message | None:
    """Return a copy of a message without the broker's counts, or None if it cannot be copied."""
    headers = message.headers or {}
    uncounted = {name: value for name, value in headers.items() if name not in _COUNTS}
    return copy_of(message.body, message.properties, uncounted)


def inspect_stream(connection: Connection, stream: str, *, now: datetime) -> Content:
    """Read a stream from its oldest message up to `now`, at most `STREAM_LIMIT` messages.

    If the limit is reached, `unseen` is 1: more messages may follow.
    """
    content, arrived = Content(), deque[Message]()
    with connection.channel() as channel:
        channel.basic_qos(0, _STREAM_PREFETCH, False)
        # A stream requires acknowledgements, which do not remove messages.
        first = {"x-stream-offset": "first"}
        channel.basic_consume(stream, callback=arrived.append, arguments=first)
        for _ in range(STREAM_LIMIT):
            if not _arrives(channel, arrived):
                return content
            message = arrived.popleft()
            content.note(message)
            if _published_after(message, now):
                return content
            if not arrived:
                channel.basic_ack(message.delivery_tag, multiple=True)
    content.unseen = 1
    return content


def _take(channel: Channel, queue: str, count: int) -> Iterator[Message]:
    # A consumer is used rather than basic.get, because the messages that it holds return to the
    # queue in their order. It does not receive more messages than it takes, and workers have
    # priority.
    arrived = deque[Message]()
    if count:
        channel.basic_qos(0, count, False)
        channel.basic_consume(queue, callback=arrived.append, arguments={"x-priority": -1})
    for _ in range(count):
        if not _arrives(channel, arrived):
            return
        yield arrived.popleft()


def _arrives(channel: Channel, arrived: deque[Message]) -> bool:
    with suppress(TimeoutError):
        while not arrived:
            channel.connection.drain_events(timeout=_DELIVERY_TIMEOUT)
    return bool(arrived)


def _published_after(message: Message, moment: datetime) -> bool:
    at = published_at(message)
    return at is not None and at > moment
