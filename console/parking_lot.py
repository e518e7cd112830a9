"""A service's parking lot, over AMQP: messages are looked at, put back on the queue, discarded."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from amqp import Channel, Message
from amqp.exceptions import MessageNacked

from common.kombu_topology import Service
from console.broker_connection import broker_connection
from console.errors import ActionError
from console.settings import BrokerAdminSettings

#: Messages that are held at once. Those that are looked at together go back in their order; of a
#: fuller parking lot the later ones come first afterwards, which no handler minds.
HOLD_LIMIT = 10_000

#: Seconds to wait for the confirm of one message, and for the next message: when it does not come,
#: somebody else has taken it.
_CONFIRM_TIMEOUT, _DELIVERY_TIMEOUT = 15, 3


class ParkingLot:
    """The parked messages of one service, as they were when it was opened."""

    def __init__(self, channel: Channel, service: Service) -> None:
        self._channel = channel
        self._service = service
        self._arrived: deque[Message] = deque()
        #: How many there are.
        self.depth: int = channel.queue_declare(service.parking_lot, passive=True).message_count

    def messages(self) -> Iterator[Message]:
        """Yield each message, oldest first; all that are not put back or discarded stay."""
        # One consumer and not basic.get: what it holds returns to the queue in its order.
        self._channel.basic_qos(prefetch_size=0, prefetch_count=HOLD_LIMIT, a_global=False)
        self._channel.basic_consume(self._service.parking_lot, callback=self._arrived.append)
        for _ in range(self.depth):
            with suppress(TimeoutError):
                while not self._arrived:
                    self._channel.connection.drain_events(timeout=_DELIVERY_TIMEOUT)
            if not self._arrived:
                return
            yield self._arrived.popleft()

    def put_back(self, message: Message) -> None:
        """Move a message to the end of the service's queue, as if it had never failed.

        It leaves the parking lot when the broker has confirmed the copy: killed in between, it is
        in both, and the service handles it once. Raises `ActionError` when the queue refuses.
        """
        try:
            self._channel.basic_publish(
                _copy(message),
                routing_key=self._service.queue,
                mandatory=True,
                confirm_timeout=_CONFIRM_TIMEOUT,
            )
        except MessageNacked:
            raise ActionError(f"{self._service.queue} is full: nothing more fits") from None
        self._channel.basic_ack(message.delivery_tag)

    def discard(self, message: Message) -> None:
        """Delete a message for ever."""
        self._channel.basic_ack(message.delivery_tag)


@contextmanager
def parking_lot(settings: BrokerAdminSettings, service: Service) -> Iterator[ParkingLot]:
    """Open a service's parking lot; raises `ActionError` when the broker cannot be reached."""
    with broker_connection(settings) as connection:
        yield ParkingLot(connection.channel(), service)


def _copy(message: Message) -> Message:
    # Headers in x- are the broker's, or tell of the failure. The broker takes no other `user_id`
    # than the publisher's, and an expiration would drop the message from the queue.
    headers = {k: v for k, v in (message.headers or {}).items() if not k.startswith("x-")}
    properties = {
        name: value
        for name, value in message.properties.items()
        if name not in ("application_headers", "user_id", "expiration", "delivery_mode")
    }
    headers["retries"] = 0
    return Message(message.body, application_headers=headers, delivery_mode=2, **properties)
