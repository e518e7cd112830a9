"""Every process, killed at the worst moment: nothing is lost, and each effect happens once."""

import httpx
import pytest

from testkit.eventually import eventually
from testkit.processes.stack import ORDER_FLOW, Stack


def test_an_order_survives_the_death_of_the_api_right_after_its_commit(stack: Stack) -> None:
    # Given an API that is killed when it has committed an order, before it answers
    others = [name for name in ORDER_FLOW if name != "api"]
    stack.start(*others)
    stack.stock(TEA=10)
    stack.start("api", module="testkit.programs.crashing.api")

    # When a customer orders, gets no answer, and asks again with the same key after the restart
    key = {"Idempotency-Key": "one-order"}
    with pytest.raises(httpx.TransportError):
        stack.post_order(("TEA", 3), headers=key)
    stack.wait_until_dead("api")
    stack.start("api")
    answer = stack.post_order(("TEA", 3), headers=key)

    # Then there is one order, and it ends right
    assert answer.status_code == 201
    assert stack.decided(answer.json()["id"]) == ("CONFIRMED", None)
    assert stack.reserved("TEA") == 3
    assert stack.execute("order", "SELECT count(*) FROM orders") == [1]


def test_an_event_survives_the_death_of_its_relay_between_publish_and_mark(stack: Stack) -> None:
    # Given a relay that is killed when the broker has the event and the outbox does not know it
    stack.start("api", "order-worker", "inventory-worker", "inventory-relay", "beat")
    stack.stock(TEA=10)
    stack.start("order-relay", module="testkit.programs.crashing.order_relay")

    # When an order is placed, and the relay is started again after its death
    order_id = stack.place(("TEA", 3))
    stack.wait_until_dead("order-relay")
    stack.start("order-relay")

    # Then the event has been delivered twice and has had one effect
    assert stack.decided(order_id) == ("CONFIRMED", None)
    eventually(lambda: _assert_deliveries(stack, "inventory-worker", 2))
    assert stack.reserved("TEA") == 3


def test_an_event_survives_the_death_of_its_worker_between_commit_and_ack(stack: Stack) -> None:
    # Given a worker that is killed when the effect is committed and the broker does not know it
    stack.start("api", "order-worker", "order-relay", "inventory-relay", "beat")
    stack.stock(TEA=10)
    stack.start("inventory-worker", module="testkit.programs.crashing.inventory_worker")

    # When an order is placed, and the worker is started again after its death
    order_id = stack.place(("TEA", 3))
    stack.wait_until_dead("inventory-worker")
    assert stack.reserved("TEA") == 3
    stack.start("inventory-worker")

    # Then the event has been delivered twice and has had one effect
    assert stack.decided(order_id) == ("CONFIRMED", None)
    eventually(lambda: _assert_deliveries(stack, "inventory-worker", 2))
    assert stack.reserved("TEA") == 3


def test_orders_wait_for_a_dead_beat_and_go_on_with_the_next_one(stack: Stack) -> None:
    # Given a running system whose beat is killed
    stack.start(*ORDER_FLOW)
    stack.stock(TEA=10)
    assert stack.decided(stack.place(("TEA", 1))) == ("CONFIRMED", None)
    stack.kill("beat")

    # When orders come in, and beat is started again
    waiting = [stack.place(("TEA", 1)) for _ in range(3)]
    stack.start("beat")

    # Then all of them end right
    assert [stack.decided(order_id) for order_id in waiting] == [("CONFIRMED", None)] * 3
    assert stack.reserved("TEA") == 4


def test_orders_are_accepted_without_a_broker_and_finish_when_it_is_back(stack: Stack) -> None:
    # Given a running system whose broker is killed
    stack.start()
    stack.stock(TEA=100)
    stack.servers.stop_broker()

    # When orders come in, and the broker comes back
    waiting = [stack.place(("TEA", 1)) for _ in range(20)]
    stack.servers.start_broker()

    # Then all of them finish, without anyone's help, and their customer hears of each
    outcomes = [stack.decided(order_id) for order_id in waiting]
    assert outcomes == [("CONFIRMED", None)] * 20
    assert stack.reserved("TEA") == 20

    def mailed() -> None:
        assert len(stack.mails()) == 40

    eventually(mailed)


def _assert_deliveries(stack: Stack, worker: str, count: int) -> None:
    assert stack.deliveries(worker, "order.created") == count
