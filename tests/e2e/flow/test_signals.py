"""What a team connects to Celery's signals sees each event once, in batches and alone."""

import json
from collections import Counter
from typing import Any

import pytest

from testkit.data.messages import in_queue
from testkit.eventually import eventually
from testkit.processes.stack import Stack

Line = dict[str, Any]

#: An event that is retried is told of once for each tier, and once more when it is parked.
TIERS = 3


@pytest.fixture
def listening(stack: Stack) -> Stack:
    """A system without an inventory, whose team listens, and fails as the address asks for."""
    stack.stock(TEA=1000)
    attempts = stack.directory / "attempts"
    attempts.mkdir()
    stack.extra |= {"ATTEMPTS": str(attempts), "SIGNALS": str(stack.directory / "signals")}
    stack.start("api", "order-relay")
    return stack


def start_worker(stack: Stack) -> None:
    stack.start("inventory-worker", module="testkit.programs.listening.inventory_worker")


def waiting(stack: Stack, *customers: str) -> list[str]:
    """Let orders of these customers wait in the queue; returns their ids."""
    orders = [stack.place(("TEA", 1), email=f"{name}@example.com") for name in customers]
    eventually(lambda: in_queue(stack.vhost, "inventory.queue", len(orders)))
    return orders


def lines(stack: Stack) -> list[Line]:
    path = stack.directory / "signals"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def told(stack: Stack, order: str) -> Counter[str]:
    """How often which signal told of an order's event; runs that counted for nothing apart."""
    return Counter(
        "ignored" if line["state"] == "IGNORED" else line["signal"]
        for line in lines(stack)
        if line["order"] == order
    )


def overlapping(stack: Stack) -> bool:
    """Tell whether runs were open at the same time in one process, as those of a batch are."""
    open_runs: Counter[int] = Counter()
    most = 0
    for line in lines(stack):
        open_runs[line["pid"]] += {"prerun": 1, "postrun": -1}.get(line["signal"], 0)
        most = max(most, open_runs[line["pid"]])
    return most > 1


def test_each_event_of_a_batch_is_told_of_once(listening: Stack) -> None:
    # Given orders that wait
    orders = waiting(listening, *["ada"] * 30)

    # When the inventory handles them in batches, beside receivers that raise
    start_worker(listening)
    eventually(lambda: _reserved(listening, 30))

    # Then each was told of once, with the headers of its message
    def each_once() -> None:
        for order in orders:
            assert told(listening, order) == {"prerun": 1, "success": 1, "postrun": 1}

    eventually(each_once)
    assert overlapping(listening)
    found = lines(listening)
    assert {line["task"] for line in found} <= {"order.created", "order.created.v2"}
    assert {tuple(line["headers"]) for line in found} == {
        ("argsrepr", "id", "lang", "root_id", "task")
    }
    assert {line["hostname"] for line in found} == {"inventory@inventory"}
    assert "a receiver has a bug" in listening.log("inventory-worker")


def test_each_attempt_at_an_event_of_a_batch_that_fails_is_told_of_once(listening: Stack) -> None:
    # Given orders that wait, one that fails for good, and one that fails each time
    good = waiting(listening, *["ada"] * 10)
    never, always = waiting_beside(listening, good, "permanent", "always")

    # When the inventory handles them: their batch is rolled back, and each is handled alone
    start_worker(listening)
    eventually(lambda: in_queue(listening.vhost, "inventory.dlq", 2))

    # Then each attempt was told of once
    def each_once() -> None:
        for order in good:
            assert counted(listening, order) == {"prerun": 1, "success": 1, "postrun": 1}
        assert counted(listening, never) == {"prerun": 1, "failure": 1, "postrun": 1}
        assert counted(listening, always) == {
            "prerun": TIERS + 1,
            "retry": TIERS,
            "failure": 1,
            "postrun": TIERS + 1,
        }

    eventually(each_once)
    # And the batch was told of as what counts for nothing
    assert any(line["state"] == "IGNORED" for line in lines(listening))
    retries = [line["retries"] for line in of(listening, always) if line["signal"] == "retry"]
    assert retries == list(range(TIERS))


def test_each_attempt_at_an_event_alone_is_told_of_once(listening: Stack) -> None:
    # Given
    start_worker(listening)

    # When orders come one by one
    good = listening.place(("TEA", 1))
    eventually(lambda: _reserved(listening, 1))
    twice = listening.place(("TEA", 1), email="twice@example.com")
    eventually(lambda: _reserved(listening, 2))
    never = listening.place(("TEA", 1), email="permanent@example.com")

    # Then
    def each_once() -> None:
        assert told(listening, good) == {"prerun": 1, "success": 1, "postrun": 1}
        assert told(listening, twice) == {"prerun": 3, "retry": 2, "success": 1, "postrun": 3}
        assert told(listening, never) == {"prerun": 1, "failure": 1, "postrun": 1}

    eventually(each_once)
    assert not overlapping(listening)


def test_an_event_that_kills_its_process_is_told_of_by_the_main_process(listening: Stack) -> None:
    # Given
    start_worker(listening)

    # When
    order = listening.place(("TEA", 1), email="kill@example.com")
    eventually(lambda: in_queue(listening.vhost, "inventory.dlq", 1))

    # Then each of its attempts has begun in a child, and failed in the main process
    expected = {"prerun": TIERS + 1, "retry": TIERS, "failure": 1}
    eventually(lambda: _same(told(listening, order), expected))
    begun = {line["pid"] for line in of(listening, order) if line["signal"] == "prerun"}
    failed = {line["pid"] for line in of(listening, order) if line["signal"] != "prerun"}
    assert len(failed) == 1
    assert not begun & failed


def waiting_beside(stack: Stack, others: list[str], *customers: str) -> list[str]:
    """Let more orders wait in the queue."""
    orders = [stack.place(("TEA", 1), email=f"{name}@example.com") for name in customers]
    count = len(orders) + len(others)
    eventually(lambda: in_queue(stack.vhost, "inventory.queue", count))
    return orders


def of(stack: Stack, order: str) -> list[Line]:
    return [line for line in lines(stack) if line["order"] == order]


def counted(stack: Stack, order: str) -> Counter[str]:
    """The same without the runs that counted for nothing: each has a begin and an end."""
    found = told(stack, order)
    found["prerun"] -= found.pop("ignored", 0)
    return found


def _reserved(stack: Stack, count: int) -> None:
    assert stack.reserved("TEA") == count


def _same(found: Counter[str], expected: dict[str, int]) -> None:
    assert found == expected
