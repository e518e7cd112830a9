"""A full queue rejects events of essential services, and drops those of other services."""

import pytest

from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION
from eventbus.topology.service import Service
from testkit.data.catching_up import ROOM, in_stream
from testkit.data.dropping import Subscriber, created, limit, outgoing, publish
from testkit.events.messages import in_queue
from testkit.eventually import becomes, eventually
from testkit.processes.publishers import PublisherOf, publish_and_settle
from testkit.servers.vhosts import Vhost


@pytest.mark.parametrize("service", [FRAUD, NOTIFICATION], ids=lambda s: s.name)
def test_a_full_nonessential_queue_refuses_no_event(
    broker: Vhost, publisher_of: PublisherOf, service: Service
) -> None:
    # Given a queue for ten messages
    limit(broker, service, ROOM)

    # When 40 events are published
    publish(publisher_of(), *(created(n) for n in range(1, 41)))

    # Then each was published once, and the queue keeps the newest
    assert broker.depth(INVENTORY.queue) == in_stream(broker) == 40
    becomes(lambda: broker.depth(service.queue), ROOM)
    # And the last drop is recorded once
    marker = eventually(lambda: _only_id(broker, service.overflow))
    assert marker == created(40 - ROOM).id.hex


def _only_id(broker: Vhost, queue: str) -> str:
    (message,) = broker.messages(queue)
    return str(message.properties["message_id"]).replace("-", "")


def test_a_full_essential_queue_refuses_events(broker: Vhost, publisher_of: PublisherOf) -> None:
    # Given a queue for ten messages
    limit(broker, INVENTORY, ROOM)
    publisher = publisher_of()

    # Then it is full sooner or later; messages in flight may exceed the limit
    def refuses() -> None:
        events = (outgoing(created(n)) for n in range(1, ROOM))
        assert publish_and_settle(publisher, events).refused

    eventually(refuses)


def test_a_dropped_retry_is_parked(fraud: Subscriber, publisher_of: PublisherOf) -> None:
    # Given a message that came back from a retry tier
    broker = fraud.broker
    broker.publish(b"[]", exchange=FRAUD.retry_exchange, routing_key="1s", headers={"id": "e-1"})
    eventually(lambda: in_queue(broker, FRAUD.queue, 1))

    # When the queue drops it
    publish(publisher_of(), *(created(n) for n in range(1, ROOM + 1)))

    # Then it is parked
    eventually(lambda: in_queue(broker, FRAUD.parking_lot, 1))
    becomes(lambda: broker.depth(FRAUD.overflow), 0)


def test_a_rejected_message_is_parked(fraud: Subscriber, publisher_of: PublisherOf) -> None:
    # Given a message in the queue
    publish(publisher_of(), created(1))

    # When it is rejected
    with fraud.broker.connect() as connection:
        channel = connection.channel()
        message = channel.basic_get(FRAUD.queue)
        channel.basic_reject(message.delivery_tag, requeue=False)

    # Then it is parked
    eventually(lambda: in_queue(fraud.broker, FRAUD.parking_lot, 1))
    becomes(lambda: fraud.broker.depth(FRAUD.overflow), 0)
