"""The workers of a test run keep out of each other's way, and leave nothing behind."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.ports import free_ports
from deploy.local.processes import leftovers
from deploy.local.processes.leftovers import MARK
from deploy.local.state import StateDirectory, create_state, delete_state, only_one
from testkit.eventually import eventually
from testkit.servers.workers import clear, own_ports, own_state


def become(monkeypatch: pytest.MonkeyPatch, worker: str, count: int) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(count))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A run's directory; a worker's in it may be a link to elsewhere."""
    root = tmp_path / "run"
    yield root
    for path in root.glob("gw*"):
        delete_state(path)


def test_no_two_workers_choose_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[int, str] = {}
    for worker in ("gw0", "gw1", "gw2"):
        become(monkeypatch, worker, 3)
        for _ in range(20):
            for port in own_ports().model_dump().values():
                assert chosen.setdefault(port, worker) == worker


def test_a_worker_does_not_choose_a_port_soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "gw1", 2)
    chosen = [port for _ in range(50) for port in own_ports().model_dump().values()]
    assert len(chosen) == len(set(chosen))


def test_the_seed_of_a_run_does_not_choose_its_ports() -> None:
    found = []
    for _ in range(2):
        # When: each test begins so
        random.seed(1)
        found.append(free_ports())

    # Then the ports differ
    assert found[0] != found[1]


def test_each_worker_has_a_directory_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    become(monkeypatch, "gw0", 2)
    first = own_state(tmp_path)
    become(monkeypatch, "gw1", 2)
    second = own_state(tmp_path)
    monkeypatch.delenv("PYTEST_XDIST_WORKER")

    assert len({first, second, own_state(tmp_path)}) == 3


def test_what_a_killed_run_has_left_is_ended_and_deleted(root: Path) -> None:
    # Given a server of a worker that a smaller run would not have
    state = create_state(root / "gw7")
    marked = os.environ | {MARK: str(state.path)}
    with subprocess.Popen(["/bin/sleep", "600"], env=marked) as server:
        try:
            # And its environment can be read, which is a moment after it was started
            eventually(lambda: _assert_found(server.pid, state))

            # When the next run starts
            clear(root)

            # Then the server and the directory are gone
            assert server.wait(timeout=10) != 0
            assert not root.exists()
        finally:
            server.kill()


def _assert_found(pid: int, state: StateDirectory) -> None:
    assert pid in leftovers.find(state)


def test_a_run_at_work_and_what_is_nobodys_stay(root: Path) -> None:
    # Given the directory of a running worker, and an unrelated one
    state = create_state(root / "gw0")
    other = root / "other"
    other.mkdir()

    # When another run starts
    with only_one(state):
        clear(root)

    # Then both are left as they are
    assert state.secrets.is_dir()
    assert other.is_dir()
