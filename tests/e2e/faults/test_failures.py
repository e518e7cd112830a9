"""Failed events: retried with backoff, parked with the reason, and invisible to other services."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from kombu.message import Message

from eventbus.consumer.failure import Failure
from testkit.eventually import eventually
from testkit.processes.stack import RETRY_TIERS, Stack


@pytest.fixture(scope="module")
def failing(shared_stack: Stack) -> Stack:
    """A system whose inventory fails as the customer's address specifies."""
    shared_stack.stock(TEA=100, MUG=100, JAR=100)
    shared_stack.start_failing()
    shared_stack.start(
        "api", "order-worker", "order-relay", "inventory-relay", "notification-worker", "beat"
    )
    return shared_stack


def test_an_event_that_always_fails_is_parked_with_the_reason(failing: Stack) -> None:
    # When the handler fails at every attempt
    order_id = failing.place(("TEA", 1), email="always@example.com")

    # Then the event is tried once more than there are retry tiers, and parked with the reason
    failure = eventually(lambda: _failure(failing, order_id))
    assert (failure.service, failure.exception) == ("inventory", "Transient")
    assert failure.text == "the shelf is locked"
    assert failure.attempts == len(RETRY_TIERS) + 1
    assert failure.first_at < failure.last_at
    assert failure.release == "dev"
    assert len(_attempts(failing, order_id)) == len(RETRY_TIERS) + 1

    # And the other service received one delivery
    assert failing.deliveries("notification-worker", "order.created", order_id) == 1


def test_an_event_that_fails_twice_is_retried_with_backoff(failing: Stack) -> None:
    # When the handler fails twice
    order_id = failing.place(("MUG", 1), email="twice@example.com")

    # Then the third attempt confirms it
    assert failing.decided(order_id) == ("CONFIRMED", None)
    assert failing.reserved("MUG") == 1

    # And the delays between the attempts grow as the tiers do, within the jitter
    attempts = _attempts(failing, order_id)
    delays = [later - earlier for earlier, later in pairwise(attempts)]
    assert len(delays) == 2
    assert all(delay >= tier * 0.8 for delay, tier in zip(delays, RETRY_TIERS, strict=False))
    assert delays[0] < delays[1]

    # And it is not parked, and the other service received one delivery
    assert _parked(failing, order_id) == []
    assert failing.deliveries("notification-worker", "order.created", order_id) == 1


def test_a_handler_that_exits_does_not_end_its_process(failing: Stack) -> None:
    # Given the worker's processes
    before = failing.pids()["inventory-worker"]

    # When the handler exits
    order_id = failing.place(("TEA", 1), email="exit@example.com")

    # Then the event is parked as after any other error, and every process is still running
    failure = eventually(lambda: _failure(failing, order_id))
    assert failure.exception == "HandlerExit"
    assert "on_order_created" in failure.text
    assert failure.attempts == len(RETRY_TIERS) + 1
    assert set(before) <= set(failing.pids()["inventory-worker"])


def test_a_permanent_failure_is_parked_at_once(failing: Stack) -> None:
    # When the handler fails permanently
    order_id = failing.place(("TEA", 1), email="permanent@example.com")

    # Then the event is parked unchanged after one attempt
    failure = eventually(lambda: _failure(failing, order_id))
    assert (failure.exception, failure.text) == ("Permanent", "there is no shelf")
    assert failure.attempts == len(_attempts(failing, order_id)) == 1
    (message,) = _parked(failing, order_id)
    assert message.properties["type"] == "order.created"
    assert message.properties["message_id"] == message.headers["id"]


def test_a_bug_is_retried_and_parked_with_its_class(failing: Stack) -> None:
    # When the handler has a bug
    order_id = failing.place(("TEA", 1), email="bug@example.com")

    # Then the event is parked after its retries, and the worker has logged the stack trace
    failure = eventually(lambda: _failure(failing, order_id))
    assert failure.exception == "ZeroDivisionError"
    # Not the text of the exception, which may quote a customer's data, but its location
    assert failure.text.startswith("raised in failing/inventory_worker.py:")
    assert failure.frame == "failing/inventory_worker.py:on_order_created"
    lines = [line for line in failing.log("inventory-worker").splitlines() if order_id in line]
    assert any("Traceback" in line for line in lines)


def test_an_event_that_crashes_its_child_is_parked_alone(failing: Stack) -> None:
    # When a handler kills its process, between other orders
    before = [failing.place(("JAR", 1)) for _ in range(3)]
    order_id = failing.place(("JAR", 1), email="kill@example.com")
    after = [failing.place(("JAR", 1)) for _ in range(3)]

    # Then the event is retried in each tier, and parked with the reason
    failure = eventually(lambda: _failure(failing, order_id))
    assert failure.exception == "WorkerLostError"
    assert failure.attempts == len(RETRY_TIERS) + 1
    # The crash of a batch is not charged to any of its events
    assert len(_attempts(failing, order_id)) - failure.attempts in (0, 1)

    # And the other orders are decided
    assert {failing.decided(other) for other in before + after} == {("CONFIRMED", None)}
    assert failing.reserved("JAR") == 6
    assert not any(_parked(failing, other) for other in before + after)


def _failure(stack: Stack, order_id: str) -> Failure:
    failure = Failure.from_headers(_only_parked(stack, order_id).headers)
    assert failure is not None
    return failure


def _only_parked(stack: Stack, order_id: str) -> Message:
    messages = _parked(stack, order_id)
    assert len(messages) == 1
    return messages[0]


def _parked(stack: Stack, order_id: str) -> list[Message]:
    """Return the order's messages in the parking lot, which also contains those of other tests."""
    messages = stack.vhost.messages("inventory.dlq")
    return [m for m in messages if json.loads(m.body)[1]["event"]["subject"] == order_id]


def _attempts(stack: Stack, order_id: str) -> list[float]:
    path = Path(stack.extra["ATTEMPTS"]) / order_id
    return [float(line) for line in path.read_text().splitlines()]
