"""The plan of a campaign: decided by its seed, without two faults of one target at once."""

from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from testkit.campaign.campaign import of_names
from testkit.campaign.fault import Fault
from testkit.campaign.faults import FAULTS
from testkit.campaign.invariants import Kind, Violation
from testkit.campaign.nemesis import Injection, Nemesis
from testkit.campaign.system import System
from testkit.campaign.verdict import Verdict, never_reached, recovery_table, totals
from testkit.eventually import eventually
from testkit.processes.stack import Stack


class Recorded(Fault):
    """A fault that only records what happens to it."""

    name = "recorded"
    hold = (0.0, 0.0)

    def __init__(self, target: str, calls: list[str]) -> None:
        self._calls = calls
        self.detail = target
        super().__init__(System(cast(Stack, None)), Random(1))

    def choose(self) -> None:
        self.targets = frozenset({self.detail.partition(" ")[0]})

    def inject(self) -> None:
        self._calls.append(f"inject {self.detail}")

    def heal(self) -> None:
        self._calls.append(f"heal {self.detail}")


def planned(seed: int) -> list[str]:
    system = System(cast(Stack, None))
    nemesis = Nemesis.planned(system, Random(seed), names=tuple(FAULTS), faults=20, orders=100)
    return [f"{each.due_after} {each.fault} {each.fault.seconds}" for each in nemesis.plan]


def test_a_seed_decides_the_faults_of_a_campaign() -> None:
    assert planned(1) == planned(1)
    assert planned(1) != planned(2)


def test_faults_are_due_in_order_while_orders_are_placed() -> None:
    due = [int(line.split()[0]) for line in planned(3)]

    assert due == sorted(due)
    assert due[0] >= 5
    assert due[-1] <= 85


def test_a_fault_waits_for_another_one_of_the_same_target() -> None:
    # Given two faults of one target and one of another, all due at once
    calls: list[str] = []
    faults = [Recorded("api 1", calls), Recorded("api 2", calls), Recorded("broker", calls)]
    plan = [Injection(fault=fault, due_after=0) for fault in faults]
    nemesis = Nemesis(cast(Any, None), plan)

    # When the nemesis acts until it is done
    while not nemesis.is_done:
        nemesis.act(0)

    # Then the second fault begins after the end of the first one
    assert calls.index("inject api 2") > calls.index("heal api 1")
    assert [str(each.fault) for each in nemesis.injected] == [str(fault) for fault in faults]


def test_a_fault_is_not_injected_before_it_is_due() -> None:
    calls: list[str] = []
    injection = Injection(fault=Recorded("api", calls), due_after=10)
    nemesis = Nemesis(cast(Any, None), [injection])

    nemesis.act(9)

    assert calls == []


def test_an_unknown_fault_is_rejected_by_name() -> None:
    with pytest.raises(ValueError, match="'clok' is not a fault; the faults are: kill, "):
        of_names("kill, clok")
    assert of_names("kill, clock") == ("kill", "clock")
    assert of_names("") == tuple(FAULTS)


def test_the_totals_count_each_kind_of_violation() -> None:
    bad = Verdict(2, orders=1_000, faults=["kill api"], violations=[Violation("I1", Kind.LOST, "")])

    assert totals([Verdict(1, orders=250), bad]) == (
        "runs 2 orders 1,250 faults 1 lost 1 doubled 0 stuck 0"
    )


def test_recovery_times_are_ranked_by_fault() -> None:
    verdict = Verdict(1)
    verdict.recoveries["kill"] += [float(n) for n in range(1, 101)]

    header, row = recovery_table([verdict])

    assert header.split() == ["fault", "times", "p50", "s", "p99", "s"]
    assert row.split() == ["kill", "100", "50.00", "99.00"]


def test_situations_that_no_campaign_reaches_are_named() -> None:
    verdict = Verdict(1)
    verdict.seen["returned"] = 1

    assert "returned" not in never_reached([verdict])
    assert "nacked" in never_reached([verdict])


class Exiting:
    """A stack whose programs exit at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.launched: list[str] = []

    def is_running(self, _name: str) -> bool:
        return False

    def health_file(self, name: str) -> Path:
        return self._directory / name

    def launch(self, program: str, _module: str | None, *, alias: str) -> None:
        assert program == alias
        self.launched.append(alias)


def test_programs_that_exit_while_the_ledger_is_read_are_started_again(tmp_path: Path) -> None:
    # Given a program that exits
    stack = Exiting(tmp_path)
    system = System(cast(Stack, stack))
    system.launch("fraud-worker", "fraud-worker")

    # When the system is supervised for some time
    with system.supervised():
        eventually(lambda: stack.launched[1])

    # Then the program was started again
    assert set(stack.launched) == {"fraud-worker"}
