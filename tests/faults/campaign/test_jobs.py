"""Campaigns that run at the same time, in several processes."""

import os
from collections.abc import Iterator

import pytest

from testkit.campaign.campaign import Plan
from testkit.campaign.jobs import verdicts
from testkit.campaign.verdict import Verdict

PLANS = [Plan(seed=seed) for seed in range(1, 6)]


def judged(plans: Iterator[Plan], number: int) -> Iterator[Verdict]:
    for plan in plans:
        yield Verdict(plan.seed, orders=number, faults=[str(os.getpid())])


def killed(plans: Iterator[Plan], _number: int) -> Iterator[Verdict]:
    next(plans)
    os._exit(1)


def test_each_plan_has_one_verdict_from_one_of_the_processes() -> None:
    found = list(verdicts(PLANS, judged, 2))

    assert sorted(verdict.seed for verdict in found) == [1, 2, 3, 4, 5]
    assert {verdict.orders for verdict in found} == {0, 1}
    assert len({str(verdict.faults) for verdict in found}) == 2


def test_there_are_not_more_processes_than_plans() -> None:
    assert [verdict.seed for verdict in verdicts(PLANS[:1], judged, 8)] == [1]


def test_the_exit_of_a_process_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="a process that runs campaigns has exited"):
        list(verdicts(PLANS, killed, 2))
