"""A wall clock that steps in one process: orders are decided and mailed, and none is cancelled."""

from collections.abc import Iterator

import pytest

from testkit.eventually import eventually
from testkit.processes.clocks import Clock
from testkit.processes.stack import Stack
from testkit.servers.vhosts import Vhost

PROCESSES = (
    "api",
    "order-worker",
    "order-relay",
    "inventory-worker",
    "inventory-relay",
    "notification-worker",
    "notification-mailer",
    "beat",
)
HOUR = 3_600


@pytest.fixture(scope="module")
def ordering(shared_stack: Stack) -> Stack:
    """A system of which each process has a clock of its own."""
    for name in PROCESSES:
        shared_stack.clock(name)
    shared_stack.start(*PROCESSES)
    shared_stack.stock(TEA=1_000)
    return shared_stack


@pytest.fixture
def stepped(ordering: Stack, process: str) -> Iterator[Clock]:
    """The clock of the process; it shows the time again when the test ends."""
    clock = ordering.clocks[process]
    yield clock
    clock.set(0)


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "behind"])
@pytest.mark.parametrize("process", PROCESSES)
def test_orders_flow_when_a_clock_steps(
    ordering: Stack, stepped: Clock, process: str, step: int
) -> None:
    # given a process whose clock was right until now
    email = f"{process}.{step}@example.com"
    before = ordering.place(("TEA", 1), email=email)

    # when it steps, and steps back
    stepped.set(step)
    after = ordering.place(("TEA", 1), email=email)
    outcomes = [ordering.decided(order_id) for order_id in (before, after)]
    stepped.set(0)
    last = ordering.place(("TEA", 1), email=email)

    # then all orders are confirmed and told of, and so are those that follow
    assert [*outcomes, ordering.decided(last)] == [("CONFIRMED", None)] * 3
    eventually(lambda: _assert_mailed(ordering, email, 6))
    order = ordering.order(after)
    assert order["created_at"] <= order["decided_at"] < order["deadline_at"]


@pytest.mark.parametrize("process", ["order-relay", "api"])
@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_deadline_is_kept_when_a_clock_is_wrong(stack: Stack, process: str, step: int) -> None:
    # given a short deadline, and nothing that decides
    stack.extra["ORDER_DEADLINE"] = "3"
    stack.clock(process).set(step)
    stack.start("api", "order-relay")

    # when
    order_id = stack.place(("TEA", 1))

    # then the order is cancelled at its deadline: not earlier, and five seconds later at most
    assert stack.decided(order_id) == ("CANCELLED", "deadline")
    (late,) = stack.execute(
        "order", "SELECT extract(epoch FROM decided_at - deadline_at) FROM orders"
    )
    (given,) = stack.execute(
        "order", "SELECT extract(epoch FROM deadline_at - created_at) FROM orders"
    )
    assert 0 <= late <= 5
    assert given == 3


def test_an_order_is_shown_as_it_is_stored(stack: Stack) -> None:
    # given an API whose clock is wrong
    stack.clock("api").set(-HOUR)
    stack.start("api")

    # when
    order = stack.post_order(("TEA", 1)).json()

    # then the answer, the row and the event tell the same time, which is the database's
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
def test_beat_goes_on_ticking_when_its_clock_steps(stack: Stack, vhost: Vhost, step: int) -> None:
    # given a queue that nobody else takes ticks from
    vhost.request("PUT", f"/queues/{vhost.name}/counted", json={"durable": True})
    binding = {"routing_key": "order.relay"}
    vhost.request("POST", f"/bindings/{vhost.name}/e/orders.ticks/q/counted", json=binding)
    clock = stack.clock("beat")
    stack.start("beat")
    eventually(lambda: _assert_ticks(vhost, 2))

    for shift in (step, 0):
        # when
        clock.set(shift)
        vhost.request("DELETE", f"/queues/{vhost.name}/counted/contents")

        # then
        eventually(lambda: _assert_ticks(vhost, 3))


def _assert_ticks(vhost: Vhost, count: int) -> None:
    assert vhost.depth("counted") >= count


def _assert_mailed(stack: Stack, email: str, count: int) -> None:
    assert len(stack.mails(email)) == count
