"""The workers of a test run: parallel processes, each with its own servers, ports and directory.

A run that is not parallel is one worker.
"""

import os
from collections.abc import Iterator
from functools import cache
from itertools import cycle
from pathlib import Path

from deploy.local.ports import CHOICE, Ports, free_ports, shuffled
from deploy.local.problem import Problem
from deploy.local.processes import leftovers
from deploy.local.state import delete_state, only_one, open_state

#: Maximum number of workers. Each runs a RabbitMQ and a PostgreSQL, which take about 500 MB of
#: memory with a test's processes.
MOST = 8

_ALONE = "alone"

#: The variables with the name of this worker, and the number of workers.
_WORKER, _WORKERS = "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"


def number_of_workers() -> int:
    """Return the number of workers that keep the processors busy, since tests often wait."""
    return min(len(os.sched_getaffinity(0)) * 2, MOST)


def become(number: int, workers: int) -> None:
    """Make this process one of several workers, which are numbered from 0."""
    os.environ |= {_WORKER: f"gw{number}", _WORKERS: str(workers)}


def own_state(root: Path, part: str = "") -> Path:
    """Return the directory of all or some of this worker's servers, within the run's directory."""
    worker = os.environ.get(_WORKER, _ALONE)
    return root / (f"{worker}-{part}" if part else worker)


def own_ports() -> Ports:
    """Return free ports that neither another worker of this run nor an earlier call has chosen.

    The ports of an earlier call may belong to a process that has not started yet.
    """
    workers = int(os.environ.get(_WORKERS, "1"))
    number = int(os.environ.get(_WORKER, "gw0").removeprefix("gw"))
    return free_ports(_candidates(number % workers, workers))


@cache
def _candidates(number: int, workers: int) -> Iterator[int]:
    return cycle(shuffled(CHOICE[number::workers]))


def clear(root: Path) -> None:
    """Stop and delete the remains of killed runs, but not of a run in progress."""
    # Only these paths are deleted, because the directory may contain other files.
    for path in (*root.glob("gw[0-9]*"), *root.glob(f"{_ALONE}*")):
        try:
            if state := open_state(path):
                with only_one(state):
                    leftovers.stop(state)
                    delete_state(path)
        except Problem:
            continue
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
