"""A copy of a received message is routed only as the process that publishes it intends."""

from amqp import Message

from common.kombu_topology import FRAUD, INVENTORY
from eventbus.messaging.message_copy import copy_of, own_headers
from testkit.eventually import becomes
from testkit.servers.vhosts import Vhost


def test_the_author_of_a_message_cannot_route_its_copies(broker: Vhost) -> None:
    # Given a message whose author names a further queue
    with broker.connect(confirm_publish=True) as connection:
        channel = connection.default_channel
        message = Message(b"{}", application_headers={"CC": [FRAUD.queue]})
        channel.basic_publish(message, routing_key=INVENTORY.queue)
        received = channel.basic_get(INVENTORY.queue, no_ack=True)
        assert channel.queue_purge(FRAUD.queue) == 1

        # When a process that may publish to any queue publishes a copy
        copy = copy_of(received.body, received.properties, own_headers(received.headers))
        assert copy
        channel.basic_publish(copy, routing_key=INVENTORY.parking_lot)

    # Then the copy is only in the queue to which it was published
    becomes(lambda: broker.depth(INVENTORY.parking_lot), 1)
    becomes(lambda: broker.depth(FRAUD.queue), 0)
