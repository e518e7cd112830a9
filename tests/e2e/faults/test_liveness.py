"""A worker's health file is fresh only while the worker can work."""

import signal
import time
from pathlib import Path

from testkit.eventually import eventually
from testkit.processes.stack import Stack


def age(stack: Stack, name: str) -> float:
    return time.time() - stack.health_file(name).stat().st_mtime


def test_the_health_file_ages_while_the_event_loop_hangs(stack: Stack) -> None:
    # Given two healthy workers
    stack.start("inventory-worker", module="testkit.programs.stalling.inventory_worker")
    stack.start("order-worker")
    eventually(lambda: _assert_ready(stack, "inventory-worker"))

    # When the event loop of one hangs, while its threads and its connection remain
    stack.signal("inventory-worker", signal.SIGUSR2)

    # Then its health file becomes several intervals old, and that of the other stays fresh
    def stale() -> None:
        assert age(stack, "inventory-worker") > 8

    eventually(stale)
    eventually(lambda: _assert_fresh(stack, "order-worker"))
    assert stack.is_running("inventory-worker")

    # And when the loop continues, the file is fresh again
    stack.signal("inventory-worker", signal.SIGCONT)
    eventually(lambda: _assert_fresh(stack, "inventory-worker"))


def test_a_worker_without_a_broker_is_alive_but_not_ready(stack: Stack) -> None:
    # Given a healthy worker
    stack.start("inventory-worker")
    file = stack.health_file("inventory-worker")
    eventually(lambda: _assert_state(file, "ready"))

    # When the broker is killed
    stack.servers.stop_broker()
    try:
        # Then its health file stays fresh, and contains the reason
        eventually(lambda: _assert_state(file, "not connected to the broker"))
        touched = file.stat().st_mtime_ns
        eventually(lambda: _assert_touched_since(file, touched))
        assert stack.is_running("inventory-worker")
    finally:
        stack.servers.start_broker()

    # And when the broker is restarted, the worker is ready again
    eventually(lambda: _assert_state(file, "ready"))


def _assert_state(file: Path, state: str) -> None:
    assert file.read_text().strip() == state


def _assert_touched_since(file: Path, touched: int) -> None:
    assert file.stat().st_mtime_ns > touched


def _assert_ready(stack: Stack, name: str) -> None:
    assert " ready." in stack.log(name)


def _assert_fresh(stack: Stack, name: str) -> None:
    assert age(stack, name) < 4
