"""The end of a channel that holds messages: its queue has them back when the call returns.

RabbitMQ answers the end of a channel before its queues do. Whatever counts or reads a queue next
would miss what is on its way, or find it behind younger messages.
"""

import time

from amqp import Channel

from common.amqps import Connection

#: Seconds to wait. Another consumer may take a message that is back before it is counted.
_TIMEOUT = 10.0
_POLL = 0.01


def ready(channel: Channel, queue: str) -> int:
    """Return how many messages of a quorum queue are with no consumer."""
    return int(channel.queue_declare(queue, passive=True).message_count)


def give_back(connection: Connection, queue: str, channel: Channel, unsettled: int) -> None:
    """Close a channel to which the queue has delivered `unsettled` messages that stay in it."""
    with connection.channel() as counter:
        back = ready(counter, queue) + unsettled
        channel.close()
        deadline = time.monotonic() + _TIMEOUT
        while ready(counter, queue) < back and time.monotonic() < deadline:
            time.sleep(_POLL)
