"""The databases of the simulator, which all seeds of a run share."""

import sys
from collections.abc import Iterator, Mapping

import pytest

from testkit.servers.databases import Databases
from testkit.simulation.database import SimulatedDatabase
from tests.faults.simulation.summary import SUMMARY


@pytest.fixture(scope="module")
def simulated(databases: Databases) -> Iterator[Mapping[str, SimulatedDatabase]]:
    """The databases of the order service and of the inventory, with a virtual clock."""
    with databases.fresh() as create:
        simulated = {name: SimulatedDatabase(create(name)) for name in ("order", "inventory")}
        yield simulated
        for database in simulated.values():
            database.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Print the totals of the simulator as the last line."""
    if line := config.stash.get(SUMMARY, None):
        sys.stdout.write(f"{line}\n")
