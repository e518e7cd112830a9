"""A service's parking lot, over AMQP: messages are inspected, redriven, replaced or discarded.

A message stays in place until it is settled: the broker holds all messages that were passed over,
unacknowledged. Beyond the limit of one consumer, another consumer continues. In this process, one
message at a time is in memory.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from amqp import Channel, Message
from amqp.exceptions import MessageNacked

from console.broker.connection import ANSWER_TIMEOUT, connected
from console.broker.settled_counts import consumers, give_back, ready
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.messaging.amqps import Connection
from eventbus.messaging.message_copy import copy_of, own_headers
from eventbus.topology.service import Service

#: The header with the number of the plan that redrove a message, and a mark of the stage. A message
#: that is parked again keeps the header.
PLAN = "redrive-plan"

#: Maximum number of messages that one consumer holds. A connection has 2,047 channels, with one
#: consumer each.
HOLD_LIMIT = 2_000

#: The same limit while messages are being settled. During the wait for a settlement, all messages
#: that the broker has sent are stored, which takes 32 MiB if each has the largest accepted body.
SETTLING_LIMIT = 128

#: Number of messages that may be settled before the queue must have applied the settlements. A
#: channel of RabbitMQ buffers commands to a quorum queue beyond 32, and discards them when it is
#: closed.
_SETTLED_TOGETHER = 16

#: Seconds to wait for the next message. If it does not arrive, another consumer has taken it.
_DELIVERY_TIMEOUT = 10


class ParkingLot:
    """The parked messages of one service at the time at which the parking lot was opened."""

    def __init__(self, reading: Connection, writing: Connection, service: Service) -> None:
        self._reading = reading
        self._writing = writing
        self._service = service
        self._holders: dict[Channel, _Holder] = {}
        with reading.channel() as channel:
            others = consumers(channel, service.parking_lot)
            #: The number of messages, excluding those that another reader holds.
            self.depth = ready(channel, service.parking_lot)
            #: Whether another reader may hold messages.
            self.is_shared = bool(others or consumers(channel, service.parking_lot))

    def messages(self, limit: int | None = None) -> Iterator[Message]:
        """Yield each message, oldest first. A message that the caller does not settle stays."""
        return self._take(limit, SETTLING_LIMIT)

    def scan(self, limit: int | None = None) -> Iterator[Message]:
        """Yield messages like `messages`, but faster. All must be read before any is settled."""
        return self._take(limit, HOLD_LIMIT)

    def _take(self, limit: int | None, held: int) -> Iterator[Message]:
        left = self.depth if limit is None else min(limit, self.depth)
        while left > 0:
            holder = _Holder(self._reading.channel(), self._service.parking_lot, min(left, held))
            self._holders[holder.channel] = holder
            before = left
            while left > 0 and (message := holder.next()):
                left -= 1
                yield message
            holder.cancel()
            if left == before:
                # Another reader has taken them since the count.
                self.is_shared = True
                return

    def put_back(
        self, message: Message, *, body: bytes | None = None, retries: int = 0, mark: str = ""
    ) -> bool:
        """Move a message to the end of the service's queue, with `retries` attempts counted.

        `body` replaces its body, and `mark` becomes the header `PLAN`. Returns False if the
        message cannot be copied and stays. Raises `ActionError` if the queue rejects the copy.
        """
        headers = own_headers(message.headers or {}) | {"retries": retries}
        headers.pop(PLAN, None)
        if mark:
            headers[PLAN] = mark
        return self._move(message, self._service.queue, headers, body)

    def replace(self, message: Message, body: bytes) -> bool:
        """Move a message to the end of the parking lot, with another body and the same headers.

        Returns and raises as `put_back`.
        """
        return self._move(message, self._service.parking_lot, message.headers or {}, body)

    def discard(self, message: Message) -> None:
        """Delete a message permanently."""
        self._holders[message.channel].settle(message)

    def close(self) -> None:
        """Return passed-over messages to the queue, in their original order."""
        for holder in self._holders.values():
            holder.settled()
            holder.cancel()
        # The consumers are closed one after the other, so that messages that were delivered first
        # are returned first.
        for channel, holder in self._holders.items():
            give_back(self._reading, self._service.parking_lot, channel, holder.unsettled)

    def _move(
        self, message: Message, queue: str, headers: Mapping[Any, Any], body: bytes | None
    ) -> bool:
        """Publish a copy to a queue, and delete the message once the broker has confirmed the copy.

        After a crash in between, both exist, and the service handles the event once.
        """
        body = message.body if body is None else body
        # With an expiration, the queue would drop the copy.
        copy = copy_of(body, message.properties, headers, expiration=None)
        if copy is None:
            return False
        try:
            # The copy is not published on the connection that reads, because the wait for the
            # confirm would read all messages that the broker has sent on that connection.
            self._writer.basic_publish(
                copy, routing_key=queue, mandatory=True, confirm_timeout=ANSWER_TIMEOUT
            )
        except MessageNacked:
            raise ActionError(f"{queue} is full") from None
        self.discard(message)
        return True

    @cached_property
    def _writer(self) -> Channel:
        return self._writing.channel()


class _Holder:
    """A consumer with its own channel, whose messages return to the queue in their order."""

    def __init__(self, channel: Channel, queue: str, limit: int) -> None:
        """`limit` is the maximum number of messages that it holds."""
        self.channel = channel
        self._queue = queue
        self._limit = limit
        #: Messages that the consumer has passed on and that are not settled.
        self._held = 0
        #: Delivery tags of messages that arrived by `basic.get`, which do not count towards the
        #: limit.
        self._fetched: set[int] = set()
        #: Number of settlements that the queue has not confirmed.
        self._unconfirmed = 0
        #: Messages that the broker has delivered and that are not settled.
        self.unsettled = 0
        self._arrived: deque[Message] = deque()
        self._tag: str | None = ""
        channel.basic_qos(prefetch_size=0, prefetch_count=self._limit, a_global=False)
        self._tag = channel.basic_consume(queue, callback=self._arrive)

    def next(self) -> Message | None:
        """Return the next message, or None if the limit is reached or no message arrives."""
        # This count equals the broker's; otherwise a message could be in transit when it stops
        # consuming.
        if not self._arrived and self._held >= self._limit:
            return None
        with suppress(TimeoutError):
            while not self._arrived:
                self.channel.connection.drain_events(timeout=_DELIVERY_TIMEOUT)
        if not self._arrived:
            return None
        message = self._arrived.popleft()
        self._held += message.delivery_tag not in self._fetched
        return message

    def settle(self, message: Message) -> None:
        """Remove a message from the queue."""
        self.channel.basic_ack(message.delivery_tag)
        if message.delivery_tag in self._fetched:
            self._fetched.remove(message.delivery_tag)
        else:
            self._held -= 1
        self.unsettled -= 1
        self._unconfirmed += 1
        if self._unconfirmed == _SETTLED_TOGETHER:
            self.settled()

    def settled(self) -> None:
        """Wait until the queue has applied all settlements."""
        # The queue responds to a get only after all earlier commands. The get delivers the next
        # message.
        if self._unconfirmed and (message := self.channel.basic_get(self._queue)):
            self._fetched.add(message.delivery_tag)
            self._arrive(message)
        self._unconfirmed = 0

    def cancel(self) -> None:
        """Stop consuming; the broker does not return the messages that are held."""
        tag, self._tag = self._tag, None
        if tag is not None:
            self.channel.basic_cancel(tag)

    def _arrive(self, message: Message) -> None:
        # A message in transit during the cancellation is counted, but not kept.
        self.unsettled += 1
        if self._tag is not None:
            self._arrived.append(message)


@contextmanager
def parking_lot(settings: BrokerAdminSettings, service: Service) -> Iterator[ParkingLot]:
    """Open a service's parking lot. Raises `ActionError` if the broker cannot be reached."""
    with (
        connected(settings) as reading,
        connected(settings, confirm_publish=True) as writing,
    ):
        lot = ParkingLot(reading, writing, service)
        try:
            yield lot
        finally:
            lot.close()
