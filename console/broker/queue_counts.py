"""Consumer counts read over AMQP, which works even while the management API has no figures."""

from collections.abc import Iterable, Mapping

from amqp.exceptions import AMQPError

from console.broker.connection import connected
from console.errors import ActionError
from console.settings import BrokerAdminSettings


def consumers(settings: BrokerAdminSettings, queues: Iterable[str]) -> Mapping[str, int]:
    """Return the number of consumers of each queue. A queue with an unknown number is omitted."""
    counts = {}
    try:
        with connected(settings) as connection:
            for name in queues:
                # A queue that is missing, or that this user may not access, closes its channel.
                channel = connection.channel()
                try:
                    counts[name] = channel.queue_declare(name, passive=True).consumer_count
                except AMQPError:
                    continue
                channel.close()
    except ActionError:
        return counts
    return counts
