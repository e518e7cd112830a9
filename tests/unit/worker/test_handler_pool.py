"""The pool of a worker: each job ends with one callback, even if its process crashes."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery import signals

from eventbus.worker import handler_process
from testkit.processes.pool import RunningPool, die, double

# A worker forks before it starts a thread; the process of the tests has threads of pytest.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def fail() -> None:
    raise ValueError("no")


def hang() -> None:
    """Ignore the soft limit."""
    while True:
        try:
            time.sleep(60)
        except SoftTimeLimitExceeded:
            continue


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
