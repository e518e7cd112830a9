"""A non-essential service with a full queue delays no order, and catches up by itself."""

from collections import Counter

import pytest

from common.kombu_topology import FRAUD, NOTIFICATION, STREAM
from eventbus.messaging import stream
from eventbus.topology.service import Service
from testkit.data.dropping import limit
from testkit.eventually import becomes, eventually
from testkit.processes.stack import Stack

ORDERS = 30

#: The events of each order: created, reserved, confirmed.
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
def test_a_service_catches_up_after_an_overflow(
    stack: Stack, service: Service, process: str, effects: int
) -> None:
    # Given a service that is down, whose queue holds ten messages
    limit(stack.vhost, service, 10)
    stack.stock(TEA=1_000)
    stack.start()
    worker = f"{service.name}-worker"
    stack.kill(worker)

    # When more events are published
    orders = [stack.place(("TEA", 1), email=f"{n}@example.com") for n in range(ORDERS)]

    # Then each order is decided, and each event was published once
    for order in orders:
        assert stack.decided(order) == ("CONFIRMED", None)
    becomes(lambda: _in_stream(stack), ORDERS * EVENTS)
    becomes(lambda: stack.vhost.depth(service.queue), 10)

    # And when its second process is killed, and both are restarted
    eventually(lambda: _assert_requested(stack, service))
    stack.kill(process)
    stack.start(worker, process)

    # Then each missed event has one effect
    query = EFFECTS[service.name]
    becomes(lambda: len(stack.execute(service.name, query)), effects)
    assert set(Counter(stack.execute(service.name, query)).values()) == {1}
    eventually(lambda: _assert_caught_up(stack, service))
    assert stack.vhost.depth(service.parking_lot) == 0
    # And no event was published again
    assert _in_stream(stack) == ORDERS * EVENTS
    assert "catch-up started" in stack.log(process)


def _in_stream(stack: Stack) -> int:
    with stack.vhost.connect() as connection:
        return stream.end(connection, STREAM)


def _assert_requested(stack: Stack, service: Service) -> None:
    query = "SELECT true FROM overflow WHERE requested_at IS NOT NULL"
    assert stack.execute(service.name, query) == [True]


def _assert_caught_up(stack: Stack, service: Service) -> None:
    query = "SELECT gaps FROM overflow WHERE requested_at IS NULL AND finished_at IS NOT NULL"
    assert stack.execute(service.name, query) == [0]
