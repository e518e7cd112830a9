"""Consumers of queues, counted over AMQP: it knows them while the management API does not."""

from collections.abc import Iterable, Mapping

from amqp.exceptions import AMQPError

from console.broker.connection import connected
from console.errors import ActionError
from console.settings import BrokerAdminSettings


def consumers(settings: BrokerAdminSettings, queues: Iterable[str]) -> Mapping[str, int]:
    """Return how many consumers each queue has; a queue is left out when it is not known."""
    found = {}
    try:
        with connected(settings) as connection:
            for name in queues:
                # A queue that is missing, or that this user may not see, costs its channel.
                channel = connection.channel()
                try:
                    found[name] = channel.queue_declare(name, passive=True).consumer_count
                except AMQPError:
                    continue
                channel.close()
    except ActionError:
        return found
    return found
