"""Counts of a queue that can be relied on, before messages are taken and after they are returned.

RabbitMQ confirms that a channel is closed before its queues have the channel's messages back.
Whatever counts or reads a queue next would miss those, or find them behind younger messages. And it
reports an empty queue, without an error, where a quorum queue's leader does not answer in 250 ms.
"""

import time

from amqp import Channel

from console.errors import ActionError
from eventbus.messaging.amqps import Connection

#: Seconds to wait. Another consumer may take a message that is back before it is counted.
_TIMEOUT = 10.0
_POLL = 0.01


def ready(channel: Channel, queue: str) -> int:
    """Return how many messages of a quorum queue are with no consumer.

    Raises `ActionError` if the queue has messages and does not report them within the limit.
    """
    if count := _count(channel, queue):
        return count
    # Unlike a count, a get waits for the leader.
    message = channel.basic_get(queue)
    if message is None:
        return 0
    count = int(message.delivery_info["message_count"]) + 1
    channel.basic_reject(message.delivery_tag, requeue=True)
    deadline = time.monotonic() + _TIMEOUT
    while _count(channel, queue) < count:
        if time.monotonic() > deadline:
            raise ActionError(f"{queue} does not report how many messages it has; try again")
        time.sleep(_POLL)
    return count


def _count(channel: Channel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def give_back(connection: Connection, queue: str, channel: Channel, unsettled: int) -> None:
    """Close a channel to which the queue has delivered `unsettled` messages that stay in it."""
    with connection.channel() as counter:
        back = ready(counter, queue) + unsettled
        channel.close()
        deadline = time.monotonic() + _TIMEOUT
        while _count(counter, queue) < back and time.monotonic() < deadline:
            time.sleep(_POLL)
