"""The databases of the simulator, which all seeds of a worker share."""

from collections.abc import Iterator, Mapping

import pytest

from testkit.servers.workers import own_state
from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.server import database_server


@pytest.fixture(scope="session")
def simulated(pytestconfig: pytest.Config) -> Iterator[Mapping[str, SimulatedDatabase]]:
    """The databases of the order service and of the inventory, with a virtual clock."""
    state = own_state(pytestconfig.getoption("state"), "simulation")
    with database_server(state) as server:
        copies = server.copies("test")
        simulated = {name: SimulatedDatabase(url) for name, url in copies.items()}
        yield simulated
        for database in simulated.values():
            database.close()
