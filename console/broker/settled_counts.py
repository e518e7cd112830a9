"""Reliable message counts of a queue, before messages are consumed and after they are returned.

RabbitMQ confirms the closing of a channel before its messages are back in the queues. The next
count or read of a queue would miss these messages, or find them behind newer messages. RabbitMQ
also reports an empty queue, without an error, if a quorum queue's leader does not respond within
250 ms.
"""

import time

from amqp import Channel

from console.errors import ActionError
from eventbus.messaging.amqps import Connection

#: Maximum seconds to wait for the count. Another consumer may take a returned message before it is
#: counted.
_TIMEOUT = 10.0
_POLL = 0.01


def ready(channel: Channel, queue: str) -> int:
    """Return the number of messages of a quorum queue that no consumer holds.

    Raises `ActionError` if the queue has messages but does not report them within the limit.
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
            raise ActionError(f"{queue} does not report its number of messages; try again")
        time.sleep(_POLL)
    return count


def consumers(channel: Channel, queue: str) -> int:
    """Return the number of consumers of a quorum queue, including all that still hold messages.

    RabbitMQ also counts a cancelled consumer, and a get, until its last message is settled.
    """
    return int(channel.queue_declare(queue, passive=True).consumer_count)


def _count(channel: Channel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).message_count)


def give_back(connection: Connection, queue: str, channel: Channel, unsettled: int) -> None:
    """Close a channel that holds `unsettled` messages, and wait until they are requeued."""
    with connection.channel() as counter:
        back = ready(counter, queue) + unsettled
        channel.close()
        deadline = time.monotonic() + _TIMEOUT
        while _count(counter, queue) < back and time.monotonic() < deadline:
            time.sleep(_POLL)
