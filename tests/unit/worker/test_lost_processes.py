"""The pool of a worker replaces the processes that a job, or the system, has ended."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from billiard.exceptions import WorkerLostError

from testkit.eventually import eventually
from testkit.processes.pool import RunningPool, die, double, wait_for

# A worker forks before it starts a thread; the process of the tests has threads of pytest.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def leave_a_child_and_die(end: str) -> None:
    """Fork a process, which keeps a copy of each descriptor until `end` exists, and die."""
    if os.fork() == 0:
        wait_for(end)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_crash_ends_one_job_and_its_process_is_replaced(
    start: Callable[[int], RunningPool], tmp_path: Path
) -> None:
    # Given a job that is running in one process
    worker = start(2)
    before = worker.pids
    go_on = tmp_path / "go on"
    worker.call(wait_for, str(go_on))

    # When a job kills the other process
    worker.call(die, signal.SIGKILL)
    (crashed,) = worker.until_ended(1)

    # Then its job has failed, and a new process takes the next one
    assert isinstance(crashed.error, WorkerLostError)
    assert "SIGKILL" in str(crashed.error)
    worker.call(double, 21)
    assert worker.until_ended(2)[1].value == 42
    assert (worker.pids[0], len(worker.pids)) == (before[0], 2)
    go_on.touch()
    assert worker.until_ended(3)[2].value is None


@pytest.mark.parametrize("is_stopping", [False, True], ids=["running", "stopping"])
def test_a_crash_is_detected_although_another_process_holds_the_connection(
    start: Callable[[int], RunningPool], tmp_path: Path, is_stopping: bool
) -> None:
    # Given a job that has forked
    worker, end = start(1), tmp_path / "end"
    worker.call(leave_a_child_and_die, str(end))

    # When its process dies
    try:
        if is_stopping:
            worker.pool.close()
            worker.pool.stop()
        else:
            worker.until_ended(1)
    finally:
        end.touch()

    # Then the job has failed, although its process's connection was still open
    assert isinstance(worker.ended[0].error, WorkerLostError)


def test_a_process_that_cannot_be_started_is_started_later(
    start: Callable[[int], RunningPool],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a system without memory for another process
    worker = start(1)
    fork, refused = os.fork, []

    def refuse() -> int:
        if len(refused) == 3:
            return fork()
        refused.append(True)
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refuse)

    # When a job crashes its process, and another follows
    worker.call(die, signal.SIGKILL)
    assert isinstance(worker.until_ended(1)[0].error, WorkerLostError)
    worker.call(double, 21)

    # Then the event loop continues, and a later check starts a process
    assert worker.until_ended(2)[1].value == 42
    lines = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert lines == ["handler process not started"]


@pytest.mark.parametrize("status", [0, 3])
def test_a_job_that_exits_is_a_crash(start: Callable[[int], RunningPool], status: int) -> None:
    worker = start(1)

    worker.call(os._exit, status)

    (ended,) = worker.until_ended(1)
    assert f"status {status}" in str(ended.error)


def test_an_idle_process_that_is_killed_is_replaced(start: Callable[[int], RunningPool]) -> None:
    worker = start(1)
    (before,) = worker.pids

    os.kill(before, signal.SIGKILL)
    eventually(lambda: worker.hub.run_once() or _assert_other(worker, before))

    worker.call(double, 1)
    assert worker.until_ended(1)[0].value == 2


def _assert_other(worker: RunningPool, pid: int) -> None:
    assert worker.pids not in ([], [pid])
