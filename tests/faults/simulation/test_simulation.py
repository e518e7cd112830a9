"""Seeded runs of the real relay, consumer runtime and retention, with faults at every point."""

from collections import Counter
from collections.abc import Mapping

import pytest

from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.simulation import Simulation
from tests.faults.simulation.summary import SUMMARY, summary

#: Situations that must occur: a property that no run reaches is not tested.
SOMETIMES = (
    "returned",
    "nacked",
    "batch isolated",
    "duplicate dropped",
    "another relay took over",
    "connection cut between publish and confirm",
    "retried",
    "parked",
)

#: Seeds from which each of these situations is expected.
ENOUGH = 20


def test_no_seed_violates_an_invariant(
    simulated: Mapping[str, SimulatedDatabase], pytestconfig: pytest.Config
) -> None:
    # When the seeds are run
    first, count = pytestconfig.getoption("seed"), pytestconfig.getoption("seeds")
    verdicts = [Simulation(simulated, seed).run() for seed in range(first, first + count)]
    pytestconfig.stash[SUMMARY] = summary(verdicts)

    # Then no event is lost, doubled or stuck
    failed = [v for v in verdicts if v.problems]
    assert not failed, "\n".join(
        f"seed {v.seed}: {'; '.join(v.problems)}\n"
        f"  .venv/bin/pytest -n 0 {__name__.replace('.', '/')}.py --seeds 1 --seed {v.seed}"
        for v in failed
    )

    # And every situation has occurred
    seen = sum((v.seen for v in verdicts), Counter[str]())
    if count >= ENOUGH:
        assert [situation for situation in SOMETIMES if not seen[situation]] == []


def test_no_seed_lets_an_event_pass_a_parked_one(
    simulated: Mapping[str, SimulatedDatabase], pytestconfig: pytest.Config
) -> None:
    # When seeds are run with services that park in sequence
    first, count = pytestconfig.getoption("seed"), max(1, pytestconfig.getoption("seeds") // 5)
    runs = (
        Simulation(simulated, seed, parks_in_sequence=True) for seed in range(first, first + count)
    )
    verdicts = [run.run() for run in runs]

    # Then no event passes a parked one, and none is lost, doubled or stuck
    assert {v.seed: v.problems for v in verdicts if v.problems} == {}
    assert sum(v.seen["waited"] for v in verdicts) > 0 or count < ENOUGH // 5


def test_a_seed_decides_everything(simulated: Mapping[str, SimulatedDatabase]) -> None:
    first, second = (Simulation(simulated, 7).run() for _ in range(2))

    assert (first.steps, first.faults, first.seen) == (second.steps, second.faults, second.seen)
