"""A subscriber's queue is full while orders come: they are decided, and it catches up by itself."""

from collections import Counter

import pytest

from common.kombu_topology import FRAUD, NOTIFICATION, STREAM
from eventbus.messaging import stream
from eventbus.topology.service import Service
from testkit.data.dropping import limit
from testkit.eventually import eventually
from testkit.processes.stack import Stack

ORDERS = 30

#: Of each order: created, reserved, confirmed.
EVENTS = 3

EFFECTS = {
    FRAUD.name: "SELECT order_id::text FROM judgements",
    NOTIFICATION.name: "SELECT order_id::text || kind FROM notifications",
}


@pytest.mark.parametrize(
    ("service", "process", "effects"),
    [(FRAUD, "fraud-relay", ORDERS), (NOTIFICATION, "notification-mailer", 2 * ORDERS)],
    ids=["fraud", "notification"],
)
def test_orders_are_decided_and_the_subscriber_catches_up_after_its_outage(
    stack: Stack, service: Service, process: str, effects: int
) -> None:
    # given a service that is down, with a queue for ten messages
    limit(stack.vhost, service, 10)
    stack.stock(TEA=1_000)
    stack.start()
    worker = f"{service.name}-worker"
    stack.kill(worker)

    # when
    orders = [stack.place(("TEA", 1), email=f"{n}@example.com") for n in range(ORDERS)]

    # then each is decided, and each of their events was published once
    for order in orders:
        assert stack.decided(order) == ("CONFIRMED", None)
    eventually(lambda: _assert_equal(_in_stream(stack), ORDERS * EVENTS))
    assert stack.vhost.depth(service.queue) == 10

    # and when its process dies, and both are back
    eventually(lambda: _assert_requested(stack, service))
    stack.kill(process)
    stack.start(worker, process)

    # then it has taken what it had missed, each once
    query = EFFECTS[service.name]
    eventually(lambda: _assert_equal(len(stack.execute(service.name, query)), effects))
    assert set(Counter(stack.execute(service.name, query)).values()) == {1}
    eventually(lambda: _assert_caught_up(stack, service))
    assert stack.vhost.depth(service.parking_lot) == 0
    # and no other service got a copy
    assert _in_stream(stack) == ORDERS * EVENTS
    assert "catch-up started" in stack.log(process)


def _in_stream(stack: Stack) -> int:
    with stack.vhost.connect() as connection:
        return stream.end(connection, STREAM)


def _assert_equal(found: object, expected: object) -> None:
    assert found == expected


def _assert_requested(stack: Stack, service: Service) -> None:
    query = "SELECT true FROM overflow WHERE requested_at IS NOT NULL"
    assert stack.execute(service.name, query) == [True]


def _assert_caught_up(stack: Stack, service: Service) -> None:
    query = "SELECT gaps FROM overflow WHERE requested_at IS NULL AND finished_at IS NOT NULL"
    assert stack.execute(service.name, query) == [0]
