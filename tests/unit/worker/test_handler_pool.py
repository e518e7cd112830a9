"""The pool of a worker: each job ends with one callback, even if its process crashes."""

import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import signals

from eventbus.worker import handler_pool, handler_process
from testkit.eventually import eventually
from testkit.processes.pool import RunningPool

# A worker forks before it starts a thread; the process of the tests has threads of pytest.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], RunningPool]]:
    """A function that starts a pool of this number of processes, which ends with the test."""
    monkeypatch.setattr(handler_pool, "CHECK_INTERVAL", 0.1)
    workers = []

    def started(processes: int) -> RunningPool:
        workers.append(RunningPool(processes))
        return workers[-1]

    yield started
    for worker in workers:
        worker.terminate()


def double(number: int) -> int:
    return 2 * number


def fail() -> None:
    raise ValueError("no")


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def hang() -> None:
    """Ignore the soft limit."""
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            continue


def die(number: int) -> None:
    os.kill(os.getpid(), number)


def leave_a_child_and_die(end: str) -> None:
    """Fork a process, which keeps a copy of each descriptor until `end` exists, and die."""
    if os.fork() == 0:
        wait_for(end)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def test_jobs_end_with_their_value_or_their_error(start: Callable[[int], RunningPool]) -> None:
    worker = start(2)

    # When there are more jobs than processes
    for number in range(10):
        worker.call(double, number)
    worker.call(fail)

    # Then each job has ended in its own way
    ended = worker.until_ended(11)
    (failed,) = [job for job in ended if hasattr(job, "error")]
    assert sorted(job.value for job in ended if job is not failed) == list(range(0, 20, 2))
    assert isinstance(failed.error, ValueError)


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


def test_a_job_beyond_its_soft_limit_is_interrupted(start: Callable[[int], RunningPool]) -> None:
    worker = start(1)
    before = worker.pids

    worker.call(time.sleep, 60, soft_timeout=0.1, timeout=60)

    (ended,) = worker.until_ended(1)
    assert isinstance(ended.error, SoftTimeLimitExceeded)
    assert worker.pids == before


def test_a_job_beyond_its_hard_limit_is_killed(start: Callable[[int], RunningPool]) -> None:
    worker = start(1)

    worker.call(hang, soft_timeout=0.1, timeout=0.3)

    (ended,) = worker.until_ended(1)
    assert isinstance(ended.error, TimeLimitExceeded)
    worker.call(double, 1)
    assert worker.until_ended(2)[1].value == 2


def test_a_late_interrupt_does_not_hit_the_next_job(start: Callable[[int], RunningPool]) -> None:
    worker = start(1)
    (pid,) = worker.pids
    worker.call(double, 1)
    worker.until_ended(1)

    os.kill(pid, signal.SIGUSR1)
    worker.call(double, 2)

    assert worker.until_ended(2)[1].value == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_process_group_does_not_interrupt_a_job(
    start: Callable[[int], RunningPool], number: int
) -> None:
    worker = start(1)

    worker.call(die, number)

    assert worker.until_ended(1)[0].value is None


def test_a_process_that_stops_reading_is_replaced(
    start: Callable[[int], RunningPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that is stopped
    monkeypatch.setattr(handler_process, "_PIPE_LIMIT", 1)
    worker = start(1)
    worker.call(double, 1)
    worker.until_ended(1)
    os.kill(worker.pids[0], signal.SIGSTOP)

    # When it receives more data than its socket can buffer
    worker.call(len, b"." * 10_000_000)

    # Then the process is replaced
    assert isinstance(worker.until_ended(2)[1].error, WorkerLostError)
    worker.call(len, b"." * 10_000_000)
    assert worker.until_ended(3)[2].value == 10_000_000


def test_large_arguments_and_results_are_transferred(start: Callable[[int], RunningPool]) -> None:
    worker = start(1)

    worker.call(bytes, 10_000_000)

    assert len(worker.until_ended(1)[0].value) == 10_000_000


def test_a_stopped_pool_finishes_running_jobs_only(
    start: Callable[[int], RunningPool], tmp_path: Path
) -> None:
    # Given running jobs, a waiting job, and processes that create a file when they exit
    ends = tmp_path / "ends"
    ends.mkdir()

    @signals.worker_process_shutdown.connect(weak=False)
    def note(pid: int, **_: object) -> None:
        (ends / str(pid)).touch()

    try:
        worker = start(2)
        pids = worker.pids
    finally:
        signals.worker_process_shutdown.disconnect(note)
    worker.call(time.sleep, 0.3, timeout=30)
    worker.call(time.sleep, 0.4, timeout=30)
    worker.call(double, 1)

    # When the pool is closed and stopped
    worker.pool.close()
    worker.pool.stop()

    # Then the jobs under way have ended, and no other has run
    assert [job.value for job in worker.ended] == [None, None]
    worker.call(double, 1)
    assert len(worker.ended) == 2
    # And each process has exited by itself
    assert sorted(int(path.name) for path in ends.iterdir()) == sorted(pids)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_stopped_pool_kills_jobs_beyond_their_limit(
    start: Callable[[int], RunningPool],
) -> None:
    worker = start(1)
    worker.call(hang, soft_timeout=0.1, timeout=0.3)

    worker.pool.close()
    worker.pool.stop()

    assert isinstance(worker.ended[0].error, TimeLimitExceeded)


def test_results_are_read_by_the_next_event_loop(
    start: Callable[[int], RunningPool],
) -> None:
    # Given running jobs while the connection is lost, and Celery resets its event loop
    worker = start(2)
    worker.call(double, 1)
    worker.call(double, 2)
    worker.hub.reset()

    # When the pool is registered with the new event loop
    worker.pool.register_with_event_loop(worker.hub)
    worker.call(double, 3)

    # Then the results of all jobs arrive
    assert {job.value for job in worker.until_ended(3)} == {2, 4, 6}
