"""The workers of a test run do not share ports or directories, and leave nothing behind."""

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
from testkit.servers.memory import in_memory
from testkit.servers.workers import clear, own_ports, own_state
from tests.support.together import rank


def become(monkeypatch: pytest.MonkeyPatch, worker: str, count: int) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(count))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The directory of a run. A worker's directory in it can be a link."""
    root = tmp_path / "run"
    yield root
    for path in root.glob("gw*"):
        delete_state(path)


def test_two_workers_never_choose_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[int, str] = {}
    for worker in ("gw0", "gw1", "gw2"):
        become(monkeypatch, worker, 3)
        for _ in range(20):
            for port in own_ports().model_dump().values():
                assert chosen.setdefault(port, worker) == worker


def test_a_worker_does_not_reuse_a_port_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, "gw1", 2)
    chosen = [port for _ in range(50) for port in own_ports().model_dump().values()]
    assert len(chosen) == len(set(chosen))


def test_ports_do_not_depend_on_the_random_seed() -> None:
    ports = []
    for _ in range(2):
        # When the seed is reset, as at the start of each test
        random.seed(1)
        ports.append(free_ports())

    # Then the ports differ
    assert ports[0] != ports[1]


def test_each_worker_has_its_own_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    become(monkeypatch, "gw0", 2)
    first = own_state(tmp_path)
    become(monkeypatch, "gw1", 2)
    second = own_state(tmp_path)
    monkeypatch.delenv("PYTEST_XDIST_WORKER")

    assert len({first, second, own_state(tmp_path)}) == 3


def test_leftovers_of_a_killed_run_are_removed(root: Path) -> None:
    # Given a server of a worker that a smaller run does not have
    state = create_state(root / "gw7")
    marked = os.environ | {MARK: str(state.path)}
    with subprocess.Popen(["/bin/sleep", "600"], env=marked) as server:
        try:
            # And its environment is readable, which takes a moment after the start
            eventually(lambda: _assert_found(server.pid, state))

            # When the next run starts
            clear(root)

            # Then the server and the directory are gone
            assert server.wait(timeout=60) != 0
            assert not root.exists()
        finally:
            server.kill()


def _assert_found(pid: int, state: StateDirectory) -> None:
    assert pid in leftovers.find(state)


def test_a_running_worker_and_unrelated_files_are_kept(root: Path) -> None:
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


def test_a_directory_in_memory_is_deleted_with_its_link(root: Path) -> None:
    # Given a new directory of a worker, where memory has room
    in_memory(root / "gw0", room=0)
    state = create_state(root / "gw0")
    assert state.path.is_relative_to("/dev/shm")

    # When it is deleted, then nothing is left in memory
    delete_state(root / "gw0")
    assert not state.path.exists()
    assert list(root.iterdir()) == []


def test_a_directory_in_memory_without_a_link_is_deleted_by_the_next_run(root: Path) -> None:
    # Given a directory of a killed run whose checkout has been deleted, and one of a running test
    in_memory(root / "gw0", room=0)
    abandoned = create_state(root / "gw0").path
    (root / "gw0").unlink()
    in_memory(root / "gw1", room=0)
    running = create_state(root / "gw1").path

    # When another run starts
    in_memory(root / "gw2", room=0)

    # Then only the former is deleted
    assert not abandoned.exists()
    assert running.exists()
    assert list(abandoned.parent.glob(f"{abandoned.name}*")) == []


def test_a_directory_is_on_disk_without_room_in_memory(root: Path) -> None:
    in_memory(root / "gw0", room=2**60)

    assert not create_state(root / "gw0").path.is_relative_to("/dev/shm")


def test_a_directory_that_exists_is_not_moved_to_memory(root: Path) -> None:
    # Given a directory with secrets
    state = create_state(root / "gw0")

    # When it is used again, then it is the same one
    in_memory(root / "gw0", room=0)
    assert create_state(root / "gw0") == state


def test_long_tests_start_first() -> None:
    nodeids = [
        "tests/unit/a.py",
        "tests/unit/project/b.py",
        "tests/integration/c.py",
        "tests/e2e/d",
    ]

    assert sorted(nodeids, key=rank) == [nodeids[3], nodeids[1], nodeids[2], nodeids[0]]
