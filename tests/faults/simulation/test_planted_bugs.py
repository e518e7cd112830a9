"""The simulator finds each planted bug: a proof that cannot fail proves nothing."""

import sys
from collections.abc import Mapping

import pytest

from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.planted_bugs import BUGS, Bug
from testkit.simulation.scheduler import Hung
from testkit.simulation.simulation import Simulation

#: Seeds within which a bug must be found.
SEEDS = 20


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(bug: Bug, simulated: Mapping[str, SimulatedDatabase]) -> None:
    with bug():
        found = next((n for n in range(1, SEEDS + 1) if _problems(simulated, n)), None)

    sys.stdout.write(f"{bug.__name__}: found by seed {found}\n")
    assert found


def _problems(simulated: Mapping[str, SimulatedDatabase], seed: int) -> list[str]:
    try:
        return Simulation(simulated, seed).run().problems
    except Hung:
        raise
    except Exception as error:
        # The broker closes a channel on which an unknown delivery is acknowledged.
        return [repr(error)]
