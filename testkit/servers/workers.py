"""A run's workers: processes side by side, each with servers, ports and a directory of its own.

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

#: Each has a RabbitMQ and a PostgreSQL: some 500 MB of memory with the processes of a test.
MOST = 8

_ALONE = "alone"


def number_of_workers() -> int:
    """Return how many workers keep the processors busy: a test often waits for others."""
    return min(len(os.sched_getaffinity(0)) * 3 // 2, MOST)


def own_state(root: Path) -> Path:
    """Return the directory of this worker's servers, within the run's."""
    return root / os.environ.get("PYTEST_XDIST_WORKER", _ALONE)


def own_ports() -> Ports:
    """Return free ports that no other worker of this run chooses, nor this one for a long time.

    Those that it chose before may be for a process that is yet to start.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return free_ports(_candidates(number % workers, workers))


@cache
def _candidates(number: int, workers: int) -> Iterator[int]:
    return cycle(shuffled(CHOICE[number::workers]))


def clear(root: Path) -> None:
    """Stop and delete what killed runs have left; of a run that is at work, nothing."""
    # Nothing else: somebody may name a directory that has more in it.
    for path in (*root.glob("gw[0-9]*"), root / _ALONE):
        try:
            if state := open_state(path):
                with only_one(state):
                    leftovers.stop(state)
                    delete_state(path)
        except Problem:
            continue
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
