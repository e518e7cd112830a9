"""A full queue rejects events of essential services, and drops those of other services."""

import pytest

from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION
from eventbus.topology.service import Service
from testkit.data.catching_up import ROOM, in_stream
from testkit.data.dropping import Subscriber, created, limit, outgoing, publish
from testkit.data.messages import in_queue
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf, publish_and_settle
from testkit.servers.vhosts import Vhost


@pytest.mark.parametrize("service", [FRAUD, NOTIFICATION], ids=lambda s: s.name)
def test_a_full_queue_of_a_subscriber_refuses_no_event(
    broker: Vhost, publisher_of: PublisherOf, service: Service
) -> None:
    # given
    limit(broker, service, ROOM)

    # when
    publish(publisher_of(), *(created(n) for n in range(1, 41)))

    # then each event was published once, and the queue keeps the newest
    assert broker.depth(INVENTORY.queue) == in_stream(broker) == 40
    assert broker.depth(service.queue) == ROOM
    # and the last drop is recorded, once
    marker = eventually(lambda: _one(broker, service.overflow))
    assert marker == created(40 - ROOM).id.hex


def _one(broker: Vhost, queue: str) -> str:
    (message,) = broker.messages(queue)
    return str(message.properties["message_id"]).replace("-", "")


def test_a_full_queue_of_an_essential_service_refuses_events(
    broker: Vhost, publisher_of: PublisherOf
) -> None:
    # given
    limit(broker, INVENTORY, ROOM)
    publisher = publisher_of()

    # then it is full sooner or later; what is on its way may pass the limit
    def refuses() -> None:
        events = (outgoing(created(n)) for n in range(1, ROOM))
        assert publish_and_settle(publisher, events).refused

    eventually(refuses)


def test_a_dropped_message_of_a_retry_tier_is_parked(
    fraud: Subscriber, publisher_of: PublisherOf
) -> None:
    # given a message that came back from a tier
    broker = fraud.broker
    broker.publish(b"[]", exchange=FRAUD.retry_exchange, routing_key="1s", headers={"id": "e-1"})
    eventually(lambda: in_queue(broker, FRAUD.queue, 1))

    # when
    publish(publisher_of(), *(created(n) for n in range(1, ROOM + 1)))

    # then
    eventually(lambda: in_queue(broker, FRAUD.parking_lot, 1))
    assert broker.depth(FRAUD.overflow) == 0


def test_a_rejected_message_is_parked(fraud: Subscriber, publisher_of: PublisherOf) -> None:
    # given
    publish(publisher_of(), created(1))

    # when
    with fraud.broker.connect() as connection:
        channel = connection.channel()
        message = channel.basic_get(FRAUD.queue)
        channel.basic_reject(message.delivery_tag, requeue=False)

    # then
    eventually(lambda: in_queue(fraud.broker, FRAUD.parking_lot, 1))
    assert fraud.broker.depth(FRAUD.overflow) == 0
