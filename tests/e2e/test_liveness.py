"""A worker's health file: it is fresh while the worker can work, and only then."""

import signal
import time

from tests.support.eventually import eventually
from tests.support.stack import Stack


def age(stack: Stack, name: str) -> float:
    return time.time() - stack.health_file(name).stat().st_mtime


def test_a_worker_whose_event_loop_hangs_no_longer_touches_its_health_file(stack: Stack) -> None:
    # Given two workers that are well
    stack.start("inventory-worker", module="tests.support.standing_still.inventory_worker")
    stack.start("order-worker")
    eventually(lambda: _assert_ready(stack, "inventory-worker"))

    # When the event loop of one hangs, while its threads and its connection are there
    stack.signal("inventory-worker", signal.SIGUSR2)

    # Then its health file grows old, beyond several of its intervals, and the other's does not
    def grown_old() -> None:
        assert age(stack, "inventory-worker") > 8

    eventually(grown_old, within=30)
    eventually(lambda: _assert_fresh(stack, "order-worker"))
    assert stack.runs("inventory-worker")

    # And when it goes on, the file is fresh again
    stack.signal("inventory-worker", signal.SIGCONT)
    eventually(lambda: _assert_fresh(stack, "inventory-worker"))


def test_an_event_worker_without_the_broker_has_no_health_file(stack: Stack) -> None:
    # Given workers that are well
    workers = ("inventory-worker", "order-worker")
    stack.start(*workers)

    # When the broker is gone
    stack.servers.stop_broker()
    try:
        # Then their health files are, too, while they themselves wait for it
        def gone() -> None:
            assert not any(stack.health_file(name).exists() for name in workers)

        eventually(gone, within=30)
        assert all(stack.runs(name) for name in workers)
    finally:
        stack.servers.start_broker()

    # And when it is back, they come back
    def back() -> None:
        assert all(stack.health_file(name).exists() for name in workers)

    eventually(back, within=60)


def _assert_ready(stack: Stack, name: str) -> None:
    assert " ready." in stack.log(name)


def _assert_fresh(stack: Stack, name: str) -> None:
    assert age(stack, name) < 4
