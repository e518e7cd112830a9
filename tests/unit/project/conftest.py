"""The topology of the shop."""

import pytest

from common.kombu_topology import topology
from eventbus.topology.objects import Topology


@pytest.fixture(scope="session")
def shop() -> Topology:
    """The topology of all services."""
    return topology()
