"""Receivers of Celery's signals are called once for each attempt at an event."""

import json
from collections import Counter
from typing import Any

import pytest

from testkit.events.messages import in_queue
from testkit.eventually import eventually
from testkit.processes.stack import Stack

Line = dict[str, Any]

#: An event that always fails has an attempt for each tier and one more, after which it is parked.
TIERS = 3


@pytest.fixture
def listening(stack: Stack) -> Stack:
    """A system without an inventory worker, with the settings of one that records signals."""
    stack.stock(TEA=1000)
    attempts = stack.directory / "attempts"
    attempts.mkdir()
    stack.extra |= {"ATTEMPTS": str(attempts), "SIGNALS": str(stack.directory / "signals")}
    stack.start("api", "order-relay")
    return stack


def start_worker(stack: Stack) -> None:
    stack.start("inventory-worker", module="testkit.programs.signal_receivers.inventory_worker")


def waiting(stack: Stack, *customers: str) -> list[str]:
    """Place orders of these customers, wait until they are queued, and return their ids."""
    orders = [stack.place(("TEA", 1), email=f"{name}@example.com") for name in customers]
    eventually(lambda: in_queue(stack.vhost, "inventory.queue", len(orders)))
    return orders


def lines(stack: Stack) -> list[Line]:
    path = stack.directory / "signals"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def signals_of(stack: Stack, order: str) -> Counter[str]:
    """Count the signals about an order's event; the ends of ignored runs count as `ignored`."""
    return Counter(
        "ignored" if line["state"] == "IGNORED" else line["signal"]
        for line in lines(stack)
        if line["order"] == order
    )


def overlapping(stack: Stack) -> bool:
    """Return whether runs overlapped in one process, as the runs of a batch do."""
    open_runs: Counter[int] = Counter()
    most = 0
    for line in lines(stack):
        open_runs[line["pid"]] += {"prerun": 1, "postrun": -1}.get(line["signal"], 0)
        most = max(most, open_runs[line["pid"]])
    return most > 1


def test_each_event_of_a_batch_has_one_run(listening: Stack) -> None:
    # Given queued orders
    orders = waiting(listening, *["ada"] * 30)

    # When the inventory handles them in batches, with other receivers that raise
    start_worker(listening)
    eventually(lambda: _reserved(listening, 30))

    # Then each has one run, with the headers of its message
    def each_once() -> None:
        for order in orders:
            assert signals_of(listening, order) == {"prerun": 1, "success": 1, "postrun": 1}

    eventually(each_once)
    assert overlapping(listening)
    recorded = lines(listening)
    assert {line["task"] for line in recorded} <= {"order.created", "order.created.v2"}
    assert {tuple(line["headers"]) for line in recorded} == {
        ("argsrepr", "id", "lang", "root_id", "task")
    }
    assert {line["hostname"] for line in recorded} == {"inventory@inventory"}
    assert "a receiver has a bug" in listening.log("inventory-worker")


def test_each_attempt_after_a_failed_batch_has_one_run(listening: Stack) -> None:
    # Given queued orders, of which one fails permanently and one at every attempt
    good = waiting(listening, *["ada"] * 10)
    never, always = waiting_beside(listening, good, "permanent", "always")

    # When the inventory handles them: the batch is rolled back, and each is handled alone
    start_worker(listening)
    eventually(lambda: in_queue(listening.vhost, "inventory.dlq", 2))

    # Then each attempt has one run
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
    # And the runs of the batch were ignored
    assert any(line["state"] == "IGNORED" for line in lines(listening))
    retries = [line["retries"] for line in of(listening, always) if line["signal"] == "retry"]
    assert retries == list(range(TIERS))


def test_each_attempt_outside_a_batch_has_one_run(listening: Stack) -> None:
    # Given a running inventory worker
    start_worker(listening)

    # When orders are placed one by one
    good = listening.place(("TEA", 1))
    eventually(lambda: _reserved(listening, 1))
    twice = listening.place(("TEA", 1), email="twice@example.com")
    eventually(lambda: _reserved(listening, 2))
    never = listening.place(("TEA", 1), email="permanent@example.com")

    # Then each attempt has one run
    def each_once() -> None:
        assert signals_of(listening, good) == {"prerun": 1, "success": 1, "postrun": 1}
        assert signals_of(listening, twice) == {"prerun": 3, "retry": 2, "success": 1, "postrun": 3}
        assert signals_of(listening, never) == {"prerun": 1, "failure": 1, "postrun": 1}

    eventually(each_once)
    assert not overlapping(listening)


def test_the_main_process_reports_a_crashed_attempt(listening: Stack) -> None:
    # Given a running inventory worker
    start_worker(listening)

    # When an order kills the child that handles it
    order = listening.place(("TEA", 1), email="kill@example.com")
    eventually(lambda: in_queue(listening.vhost, "inventory.dlq", 1))

    # Then each of its attempts started in a child, and failed in the main process
    expected = {"prerun": TIERS + 1, "retry": TIERS, "failure": 1}
    eventually(lambda: _same(signals_of(listening, order), expected))
    started = {line["pid"] for line in of(listening, order) if line["signal"] == "prerun"}
    failed = {line["pid"] for line in of(listening, order) if line["signal"] != "prerun"}
    assert len(failed) == 1
    assert not started & failed


def waiting_beside(stack: Stack, others: list[str], *customers: str) -> list[str]:
    """Place more orders, wait until all are queued, and return the ids of the new ones."""
    orders = [stack.place(("TEA", 1), email=f"{name}@example.com") for name in customers]
    count = len(orders) + len(others)
    eventually(lambda: in_queue(stack.vhost, "inventory.queue", count))
    return orders


def of(stack: Stack, order: str) -> list[Line]:
    return [line for line in lines(stack) if line["order"] == order]


def counted(stack: Stack, order: str) -> Counter[str]:
    """Count the same without the ignored runs, each of which has a `prerun`."""
    count = signals_of(stack, order)
    count["prerun"] -= count.pop("ignored", 0)
    return count


def _reserved(stack: Stack, count: int) -> None:
    assert stack.reserved("TEA") == count


def _same(actual: Counter[str], expected: dict[str, int]) -> None:
    assert actual == expected
