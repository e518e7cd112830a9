"""A record of Celery's signals, and pools of child processes."""

from collections.abc import Callable, Iterator

import pytest

from eventbus.worker import handler_pool
from testkit.processes.pool import RunningPool
from testkit.processes.signals import SignalCall, receivers


@pytest.fixture
def calls() -> Iterator[list[SignalCall]]:
    """The calls of a receiver that is connected to the signals of all runs."""
    record: list[SignalCall] = []
    with receivers(record.append):
        yield record


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
