"""Steps of one process's wall clock: orders are decided and mailed, and not cancelled."""

from collections.abc import Iterator

import pytest

from testkit.eventually import eventually
from testkit.processes.clocks import Clock
from testkit.processes.stack import ORDER_FLOW_WITH_MAILS, Stack
from testkit.servers.vhosts import Vhost

HOUR = 3_600


@pytest.fixture(scope="module")
def ordering(shared_stack: Stack) -> Stack:
    """A system in which each process has its own clock."""
    for name in ORDER_FLOW_WITH_MAILS:
        shared_stack.clock(name)
    shared_stack.start(*ORDER_FLOW_WITH_MAILS)
    shared_stack.stock(TEA=1_000)
    return shared_stack


@pytest.fixture
def stepped(ordering: Stack, process: str) -> Iterator[Clock]:
    """The clock of the process; it is set to the time again after the test."""
    clock = ordering.clocks[process]
    yield clock
    clock.set(0)


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "behind"])
@pytest.mark.parametrize("process", ORDER_FLOW_WITH_MAILS)
def test_orders_are_confirmed_when_a_clock_steps(
    ordering: Stack, stepped: Clock, process: str, step: int
) -> None:
    # Given a process whose clock is right
    email = f"{process}.{step}@example.com"
    before = ordering.place(("TEA", 1), email=email)

    # When the clock steps, and steps back
    stepped.set(step)
    after = ordering.place(("TEA", 1), email=email)
    outcomes = [ordering.decided(order_id) for order_id in (before, after)]
    stepped.set(0)
    last = ordering.place(("TEA", 1), email=email)

    # Then the orders before, between and after the steps are confirmed and mailed
    assert [*outcomes, ordering.decided(last)] == [("CONFIRMED", None)] * 3
    eventually(lambda: _assert_mailed(ordering, email, 6))
    order = ordering.order(after)
    assert order["created_at"] <= order["decided_at"] < order["deadline_at"]


@pytest.mark.parametrize("process", ["order-relay", "api"])
@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_deadline_holds_when_a_clock_is_wrong(stack: Stack, process: str, step: int) -> None:
    # Given a short deadline, and no inventory
    stack.extra["ORDER_DEADLINE"] = "3"
    stack.clock(process).set(step)
    stack.start("api", "order-relay")

    # When an order is placed
    order_id = stack.place(("TEA", 1))

    # Then the order is cancelled at its deadline: not earlier, and not later by the clock's error,
    # but perhaps by seconds on a busy machine
    assert stack.decided(order_id) == ("CANCELLED", "deadline")
    (late,) = stack.execute(
        "order", "SELECT extract(epoch FROM decided_at - deadline_at) FROM orders"
    )
    (deadline,) = stack.execute(
        "order", "SELECT extract(epoch FROM deadline_at - created_at) FROM orders"
    )
    assert 0 <= late < HOUR / 10
    assert deadline == 3


def test_an_order_has_the_time_of_the_database(stack: Stack) -> None:
    # Given an API whose clock is wrong
    stack.clock("api").set(-HOUR)
    stack.start("api")

    # When an order is placed
    order = stack.post_order(("TEA", 1)).json()

    # Then the response, the row and the event have the same time, that of the database
    assert stack.order(order["id"]) == order
    (same,) = stack.execute(
        "order",
        "SELECT (event::json->>'time')::timestamptz = orders.created_at"
        " FROM orders JOIN outbox ON subject = orders.id",
    )
    (age,) = stack.execute("order", "SELECT extract(epoch FROM now() - created_at) FROM orders")
    assert same
    assert 0 <= age < 600


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_beat_keeps_ticking_when_its_clock_steps(stack: Stack, vhost: Vhost, step: int) -> None:
    # Given a queue of ticks without another consumer
    vhost.request("PUT", f"/queues/{vhost.name}/counted", json={"durable": True})
    binding = {"routing_key": "order.relay"}
    vhost.request("POST", f"/bindings/{vhost.name}/e/orders.ticks/q/counted", json=binding)
    clock = stack.clock("beat")
    stack.start("beat")
    eventually(lambda: _assert_ticks(vhost, 2))

    for shift in (step, 0):
        # When the clock steps
        clock.set(shift)
        vhost.request("DELETE", f"/queues/{vhost.name}/counted/contents")

        # Then further ticks arrive
        eventually(lambda: _assert_ticks(vhost, 3))


def _assert_ticks(vhost: Vhost, count: int) -> None:
    assert vhost.depth("counted") >= count


def _assert_mailed(stack: Stack, email: str, count: int) -> None:
    assert len(stack.mails(email)) == count
