"""The last line of a run of the simulator."""

from collections.abc import Iterable

import pytest

from testkit.simulation.verdict import Verdict

#: Where a test leaves the line for the end of the run.
SUMMARY = pytest.StashKey[str]()

_TOTALS = ("orders", "faults", "lost", "doubled", "stuck")


def summary(verdicts: Iterable[Verdict]) -> str:
    """Return the totals of some runs in one line."""
    runs = list(verdicts)
    totals = (f"{name} {sum(getattr(run, name) for run in runs):,}" for name in _TOTALS)
    return " ".join((f"seeds {len(runs):,}", *totals))
