"""The simulator finds each planted bug: a proof that cannot fail proves nothing."""

import sys
from collections.abc import Mapping

import pytest

from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.planted_bugs import BUGS, Bug
from testkit.simulation.simulation import run_seed

#: Seeds within which a bug must be found.
SEEDS = 20


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Bug, simulated: Mapping[str, SimulatedDatabase]) -> None:
    with bug():
        found = next((n for n in range(1, SEEDS + 1) if run_seed(simulated, n).problems), None)

    sys.stdout.write(f"{bug.__name__}: found by seed {found}\n")
    assert found
