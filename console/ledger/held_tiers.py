"""The messages of a service's retry tiers, held and recorded as they arrive."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from amqp import Channel, Message

from console.broker.parked_message import event_id
from console.broker.state import Object, figure
from eventbus.messaging.amqps import Connection

#: Maximum number of messages of one tier that can be held.
HOLD_LIMIT = 10_000


class HeldTiers:
    """Consumers that never acknowledge, so messages that they hold do not expire.

    The messages return to their places when `release` is called or the connection ends. `arrived`
    is called with each message.
    """

    def __init__(
        self,
        connection: Connection,
        queues: Sequence[str],
        arrived: Callable[[Message], None],
    ) -> None:
        self._arrived = arrived
        #: The ids of the events in the tiers, as far as they have arrived.
        self.ids: set[str] = set()
        self._held: Counter[str] = Counter()
        self._queues = queues
        self._channels = [self._consume(connection, queue) for queue in queues]

    def covers(self, totals: Mapping[str, Object]) -> bool:
        """Return whether all messages of the tiers are held, according to the broker's counts."""
        counts = {queue: figure(totals.get(queue), "messages") for queue in self._queues}
        return all(
            count is not None and count <= self._held[queue] < HOLD_LIMIT
            for queue, count in counts.items()
        )

    def release(self) -> None:
        """Return the messages to their tiers. Due messages then expire into the queue."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()

    def _consume(self, connection: Connection, queue: str) -> Channel:
        channel: Channel = connection.channel()
        channel.basic_qos(0, HOLD_LIMIT, False)
        channel.basic_consume(queue, callback=self._counted(queue))
        return channel

    def _counted(self, queue: str) -> Callable[[Message], None]:
        def arrive(message: Message) -> None:
            self.ids.add(event_id(message))
            self._held[queue] += 1
            self._arrived(message)

        return arrive
