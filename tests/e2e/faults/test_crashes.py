"""Every process, killed at its worst moment: nothing is lost, and each effect happens once."""

import httpx
import pytest

from testkit.eventually import eventually
from testkit.processes.stack import ORDER_FLOW, Stack


def test_an_order_survives_a_crash_of_the_api_after_its_commit(stack: Stack) -> None:
    # Given an API that is killed after the commit of an order, before it responds
    others = [name for name in ORDER_FLOW if name != "api"]
    stack.start(*others)
    stack.stock(TEA=10)
    stack.start("api", module="testkit.programs.crashing.api")

    # When a client gets no response, and retries with the same key after the restart
    key = {"Idempotency-Key": "one-order"}
    with pytest.raises(httpx.TransportError):
        stack.post_order(("TEA", 3), headers=key)
    stack.wait_until_killed("api")
    stack.start("api")
    response = stack.post_order(("TEA", 3), headers=key)

    # Then there is one order, and it is confirmed
    assert response.status_code == 201
    assert stack.decided(response.json()["id"]) == ("CONFIRMED", None)
    assert stack.reserved("TEA") == 3
    assert stack.execute("order", "SELECT count(*) FROM orders") == [1]


def test_an_event_survives_a_crash_of_its_relay(stack: Stack) -> None:
    # Given a relay that is killed after the confirm, before it marks the event as sent
    stack.start("api", "order-worker", "inventory-worker", "inventory-relay", "beat")
    stack.stock(TEA=10)
    stack.start("order-relay", module="testkit.programs.crashing.order_relay")

    # When an order is placed, and the relay is restarted
    order_id = stack.place(("TEA", 3))
    stack.wait_until_killed("order-relay")
    stack.start("order-relay")

    # Then the event is delivered twice, and has one effect
    assert stack.decided(order_id) == ("CONFIRMED", None)
    eventually(lambda: _assert_deliveries(stack, "inventory-worker", 2))
    assert stack.reserved("TEA") == 3


def test_an_event_survives_a_crash_of_its_worker(stack: Stack) -> None:
    # Given a worker that is killed after the commit, before it acknowledges the message
    stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat")
    stack.stock(TEA=10)
    stack.start("inventory-worker", module="testkit.programs.crashing.inventory_worker")

    # When an order is placed, and the worker is restarted
    order_id = stack.place(("TEA", 3))
    stack.wait_until_killed("inventory-worker")
    assert stack.reserved("TEA") == 3
    stack.start("inventory-worker")

    # Then the event is delivered twice, and has one effect
    assert stack.decided(order_id) == ("CONFIRMED", None)
    eventually(lambda: _assert_deliveries(stack, "inventory-worker", 2))
    assert stack.reserved("TEA") == 3


def test_orders_survive_a_crash_of_beat(stack: Stack) -> None:
    # Given a running system whose beat is killed
    stack.start(*ORDER_FLOW)
    stack.stock(TEA=10)
    assert stack.decided(stack.place(("TEA", 1))) == ("CONFIRMED", None)
    stack.kill("beat")

    # When orders are placed, and beat is restarted
    orders = [stack.place(("TEA", 1)) for _ in range(3)]
    stack.start("beat")

    # Then all of them are confirmed
    assert [stack.decided(order_id) for order_id in orders] == [("CONFIRMED", None)] * 3
    assert stack.reserved("TEA") == 4


def test_orders_are_accepted_during_a_broker_outage(stack: Stack) -> None:
    # Given a running system whose broker is down
    stack.start()
    stack.stock(TEA=100)
    stack.servers.stop_broker()

    # When orders are placed, and the broker is restarted
    orders = [stack.place(("TEA", 1)) for _ in range(20)]
    stack.servers.start_broker()

    # Then all of them are confirmed, and the customer receives their emails
    outcomes = [stack.decided(order_id) for order_id in orders]
    assert outcomes == [("CONFIRMED", None)] * 20
    assert stack.reserved("TEA") == 20

    def mailed() -> None:
        assert len(stack.mails()) == 40

    eventually(mailed)


def _assert_deliveries(stack: Stack, worker: str, count: int) -> None:
    assert stack.deliveries(worker, "order.created") == count
