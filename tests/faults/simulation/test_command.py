"""The command that runs many seeds: its output and its exit status."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import pytest
from click.testing import CliRunner, Result

from testkit.simulation import __main__ as command
from testkit.simulation.verdict import SITUATIONS, Verdict


class Sequential:
    """A pool that runs the seeds in this process."""

    def map(
        self, run: Callable[[int], Verdict], seeds: Iterable[int], *, chunksize: int
    ) -> Iterator[Verdict]:
        assert chunksize
        return map(run, seeds)


def seeds(monkeypatch: pytest.MonkeyPatch, run: Callable[[int], Verdict], *options: str) -> Result:
    monkeypatch.setattr(command, "database_server", lambda _: nullcontext())
    monkeypatch.setattr(command, "_pool", lambda *_: nullcontext(Sequential()))
    monkeypatch.setattr(command, "_run", run)
    return CliRunner().invoke(command.main, options)


def test_a_failing_seed_is_printed_with_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(seed: int) -> Verdict:
        return Verdict(seed, problems=["order.created has no effect"] if seed == 8 else [])

    result = seeds(monkeypatch, run, "--seed", "7", "--seeds", "3")

    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "seed 8 FAILED: order.created has no effect",
        "  again: make chaos SEEDS=1 SEED=8",
        "seeds 3 orders 0 events 0 faults 0 lost 0 doubled 0 stuck 0",
    ]


def test_many_seeds_fail_if_a_situation_is_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(seed: int) -> Verdict:
        verdict = Verdict(seed)
        verdict.seen.update(each for each in SITUATIONS if each != "parked")
        return verdict

    few = seeds(monkeypatch, run, "--seeds", "19")
    many = seeds(monkeypatch, run, "--seeds", "20")

    assert (few.exit_code, many.exit_code) == (0, 1)
    assert "never reached: parked\n" in many.output
