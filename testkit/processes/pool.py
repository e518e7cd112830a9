"""A handler pool with its event loop."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from celery import Celery
from kombu.asynchronous import Hub

from eventbus.worker.handler_pool import HandlerPool
from testkit.eventually import eventually

app = Celery("test", set_as_current=False)


class Ended(SimpleNamespace):
    """The end of a job: its `value`, or its `error`."""


class RunningPool:
    """A pool, and the event loop that reads the results of its jobs."""

    def __init__(self, processes: int) -> None:
        self.pool = HandlerPool(processes, app=app, initargs=(app, "worker@test"))
        self.pool.start()
        self.hub = Hub()
        self.pool.register_with_event_loop(self.hub)
        self.ended: list[Ended] = []

    def call(self, target: Callable[..., Any], *args: Any, **limits: float) -> None:
        """Submit a job."""
        self.pool.apply_async(
            target,
            args,
            callback=lambda value: self.ended.append(Ended(value=value)),
            error_callback=lambda error: self.ended.append(Ended(error=error)),
            **limits,
        )

    def until_ended(self, jobs: int) -> list[Ended]:
        """Run the event loop until this number of jobs have ended."""

        def enough() -> None:
            self.hub.run_once()
            assert len(self.ended) >= jobs

        eventually(enough)
        return self.ended

    @property
    def pids(self) -> list[int]:
        """The ids of the pool's processes."""
        return [process.pid for process in self.pool._processes]

    def terminate(self) -> None:
        """Kill the processes and close the event loop."""
        self.pool.terminate()
        self.hub.close()


def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


def wait_for(path: str) -> None:
    """Wait until a file exists."""
    while not Path(path).exists():
        time.sleep(0.01)


def die(number: int) -> None:
    """Kill this process by a signal."""
    os.kill(os.getpid(), number)
