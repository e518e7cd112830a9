"""Programs that are interrupted at each point: nothing is lost, and each effect happens once."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from testkit.campaign.system import System
from testkit.mail.mailbox import Mailbox
from testkit.matrix.points import CELLS, Cell, sample
from testkit.matrix.survival import Matrix
from testkit.processes.operated import operated
from testkit.processes.orderctl import environment_of
from testkit.processes.stack import RETRY_TIERS
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import fresh_vhost


@pytest.fixture(scope="module")
def matrix(
    servers: Infrastructure, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Matrix]:
    """A running system for all cells."""
    suffix, directory = f"_{uuid4().hex[:8]}", tmp_path_factory.mktemp("run")
    databases.create_all(suffix)
    with fresh_vhost(servers) as vhost, Mailbox.running() as mailbox:
        environment = environment_of(servers, vhost, suffix, RETRY_TIERS)
        with operated(servers, databases, environment, vhost, mailbox, directory) as stack:
            ready = Matrix(System(stack), environment)
            ready.start()
            yield ready
    databases.drop_all(suffix)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        count, seed = metafunc.config.getoption("cells"), metafunc.config.getoption("seed")
        cells = CELLS if count == "all" else sample(int(count), seed)
        metafunc.parametrize("cell", cells, ids=str)


def test_no_invariant_is_violated_after_an_interruption(matrix: Matrix, cell: Cell) -> None:
    assert matrix.violations(cell) == []
