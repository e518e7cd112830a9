"""A service's parking lot, over AMQP: messages are looked at, put back on the queue, discarded.

A message stays where it is until it is settled, so that all that were passed over are held by the
broker, unacknowledged. One consumer holds a limited number; beyond it another one goes on. This
process holds one message at a time.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property

from amqp import Channel, Message
from amqp.exceptions import MessageNacked

from console.broker.connection import ANSWER_TIMEOUT, connected
from console.broker.settled_counts import give_back, ready
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.messaging.amqps import Connection
from eventbus.messaging.message_copy import copy_of, own_headers
from eventbus.topology.service import Service

#: Messages that one consumer holds. A connection has 2,047 channels, of one consumer each.
HOLD_LIMIT = 2_000

#: Messages that are settled before their queue must have done so. A channel of RabbitMQ keeps what
#: is beyond 32 commands to a quorum queue for itself, and forgets it when it is closed.
_SETTLED_TOGETHER = 16

#: Seconds to wait for the next message: when it does not come, somebody else has taken it.
_DELIVERY_TIMEOUT = 10


class ParkingLot:
    """The parked messages of one service, as they were when it was opened."""

    def __init__(self, reading: Connection, writing: Connection, service: Service) -> None:
        self._reading = reading
        self._writing = writing
        self._service = service
        self._holders: dict[Channel, _Holder] = {}
        with reading.channel() as channel:
            #: How many there are.
            self.depth = ready(channel, service.parking_lot)

    def messages(self, limit: int | None = None) -> Iterator[Message]:
        """Yield each message, oldest first; all that are not put back or discarded stay."""
        left = self.depth if limit is None else min(limit, self.depth)
        while left > 0:
            holder = _Holder(self._reading.channel(), self._service.parking_lot, left)
            self._holders[holder.channel] = holder
            before = left
            while left > 0 and (message := holder.next()):
                left -= 1
                yield message
            holder.cancel()
            if left == before:
                return

    def put_back(self, message: Message) -> bool:
        """Move a message to the end of the service's queue, as if it had never failed.

        It leaves the parking lot when the broker has confirmed the copy: killed in between, it is
        in both, and the service handles it once. False if a copy cannot be made: it stays. Raises
        `ActionError` when the queue refuses.
        """
        headers = own_headers(message.headers or {}) | {"retries": 0}
        # An expiration would drop it from the queue.
        copy = copy_of(message.body, message.properties, headers, expiration=None)
        if copy is None:
            return False
        try:
            # Not on the connection that reads: before the confirm it would take in all messages
            # that the broker has sent.
            self._writer.basic_publish(
                copy,
                routing_key=self._service.queue,
                mandatory=True,
                confirm_timeout=ANSWER_TIMEOUT,
            )
        except MessageNacked:
            raise ActionError(f"{self._service.queue} is full: nothing more fits") from None
        self.discard(message)
        return True

    def discard(self, message: Message) -> None:
        """Delete a message for ever."""
        self._holders[message.channel].settle(message)

    def close(self) -> None:
        """Give back what was passed over, in its order."""
        for holder in self._holders.values():
            holder.settled()
            holder.cancel()
        # One after the other: the queue gets back first what it gave first.
        for channel, holder in self._holders.items():
            give_back(self._reading, self._service.parking_lot, channel, holder.unsettled)

    @cached_property
    def _writer(self) -> Channel:
        return self._writing.channel()


class _Holder:
    """A consumer with a channel of its own: what it holds returns to the queue in its order."""

    def __init__(self, channel: Channel, queue: str, count: int) -> None:
        self.channel = channel
        self._queue = queue
        self._limit = min(count, HOLD_LIMIT)
        #: Messages of the consumer that were passed on, and are not settled.
        self._held = 0
        #: Delivery tags of the messages that came by a get: the limit does not count them.
        self._fetched: set[int] = set()
        self._unsure = 0
        #: Messages that the broker has delivered, and that are not settled.
        self.unsettled = 0
        self._arrived: deque[Message] = deque()
        self._tag: str | None = ""
        channel.basic_qos(prefetch_size=0, prefetch_count=self._limit, a_global=False)
        self._tag = channel.basic_consume(queue, callback=self._arrive)

    def next(self) -> Message | None:
        """Return the next message; None if it holds as many as it can, or none comes."""
        # The broker counts as this does, or a message would be on its way when it is cancelled.
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
        """Take a message out of the queue."""
        self.channel.basic_ack(message.delivery_tag)
        if message.delivery_tag in self._fetched:
            self._fetched.remove(message.delivery_tag)
        else:
            self._held -= 1
        self.unsettled -= 1
        self._unsure += 1
        if self._unsure == _SETTLED_TOGETHER:
            self.settled()

    def settled(self) -> None:
        """Wait until the queue has settled all that was settled."""
        # The queue answers a get after what came before it. What it gives is the next message.
        if self._unsure and (message := self.channel.basic_get(self._queue)):
            self._fetched.add(message.delivery_tag)
            self._arrive(message)
        self._unsure = 0

    def cancel(self) -> None:
        """Take no more messages; those that are held stay so."""
        tag, self._tag = self._tag, None
        if tag is not None:
            self.channel.basic_cancel(tag)

    def _arrive(self, message: Message) -> None:
        # What is on its way when it is cancelled is read, and not kept.
        self.unsettled += 1
        if self._tag is not None:
            self._arrived.append(message)


@contextmanager
def parking_lot(settings: BrokerAdminSettings, service: Service) -> Iterator[ParkingLot]:
    """Open a service's parking lot; raises `ActionError` when the broker cannot be reached."""
    with (
        connected(settings) as reading,
        connected(settings, confirm_publish=True) as writing,
    ):
        lot = ParkingLot(reading, writing, service)
        try:
            yield lot
        finally:
            lot.close()
