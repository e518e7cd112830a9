"""On a busy machine, the processes that decide orders have priority."""

import os
from pathlib import Path

from testkit.eventually import eventually
from testkit.processes.stack import Stack

NICENESS = {"inventory-worker": 0, "inventory-relay": 0, "fraud-worker": 10, "fraud-relay": 10}


def test_processes_of_services_that_no_order_waits_for_yield_to_the_others(stack: Stack) -> None:
    # Given processes of a service that decides orders and of one that does not
    del stack.extra["NICENESS"]

    stack.start(*NICENESS)

    # Then the latter and their children have a lower priority
    def prioritized() -> None:
        for name, pids in stack.pids().items():
            assert {niceness(pid) for pid in pids} == {lowered(NICENESS[name])}, name

    eventually(prioritized)


def test_a_setting_replaces_the_priority(stack: Stack) -> None:
    stack.extra["NICENESS"] = "3"

    stack.start("fraud-relay")

    eventually(lambda: _assert_niceness(stack, 3))


def lowered(niceness: int) -> int:
    """Return the nice value of a process whose setting is `niceness`: it is added to the test's."""
    return min(os.getpriority(os.PRIO_PROCESS, 0) + niceness, 19)


def niceness(pid: int) -> int:
    """Return the nice value of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[16])


def _assert_niceness(stack: Stack, expected: int) -> None:
    for pids in stack.pids().values():
        assert {niceness(pid) for pid in pids} == {lowered(expected)}
