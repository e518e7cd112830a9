"""The catch-up of the fraud check, whose full queue drops events."""

from common.kombu_topology import STREAM
from eventbus.catch_up import overflow
from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.overflow import Overflow
from eventbus.database.db import transaction
from eventbus.messaging import stream
from testkit.data.dropping import Subscriber
from testkit.eventually import eventually
from testkit.servers.vhosts import Vhost

#: The maximum number of messages in the queue, which drops any additional messages.
ROOM = 10


def in_stream(broker: Vhost) -> int:
    """Return the number of messages that have ever been published to the stream."""
    with broker.connect() as connection:
        return stream.end(connection, STREAM)


def record(fraud: Subscriber) -> Overflow:
    """Return the service's record of dropped events."""
    with transaction(fraud.sessions) as session:
        return overflow.read(session)[0]


def catch_up(fraud: Subscriber, process: CatchUp) -> None:
    """Alternate between the worker and the catch-up until no event is missing."""

    def done() -> None:
        fraud.handle()
        process.step()
        assert record(fraud).requested_at is None
        assert fraud.handle() == 0

    process.step()
    eventually(done)
