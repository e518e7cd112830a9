"""A worker's pool: a few child processes that handle one batch at a time each.

Celery's prefork pool sends two answers for each call, and takes a turn of the event loop for each
part of a message. By sampling, that was a third of the processor time of a worker's main process.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import BasePool

from eventbus.worker.handler_process import END_LIMIT, HandlerProcess, Job

log = logging.getLogger(__name__)

#: Seconds between two checks of the time limits, and of the number of processes. One that ends
#: without a job, as it cannot start, is not replaced more often.
CHECK_INTERVAL = 1.0


class HandlerPool(BasePool):
    """Celery's `worker_pool`; `apply_async` takes what `celery.concurrency.base` documents."""

    def on_start(self) -> None:
        """Fork the processes."""
        self._processes: list[HandlerProcess] = []
        #: More than there are idle processes, after a reconnect.
        self._waiting: deque[Job] = deque()
        self._hub: Any = None
        self._timer: Any = None
        self._replenish()

    def register_with_event_loop(self, hub: Any) -> None:
        """Read answers as they come; the event loop of each connection begins with no reader."""
        self._hub = hub
        for process in self._processes:
            hub.add_reader(process.fileno(), self._answered, process)
        if self._timer:
            self._timer.cancel()
        self._timer = hub.call_repeatedly(CHECK_INTERVAL, self._check)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        _kwargs: Any,
        *,
        callback: Callable[[Any], None],
        error_callback: Callable[[BaseException], None],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> None:
        """Call `target` in the next idle process; a pool that is being stopped takes nothing."""
        if not self.active:
            return
        job = Job(target, args, callback, error_callback, soft_timeout, timeout)
        self._waiting.append(job)
        self._start_next()

    def on_stop(self) -> None:
        """Settle the jobs under way, within their limits, and end the processes."""
        self._waiting.clear()
        while busy := [process for process in self._processes if process.job]:
            for process in busy:
                process.check_limits()
                self._settle(process, timeout=CHECK_INTERVAL / 10)
        for process in self._processes:
            process.close()
        self._reap()

    def on_terminate(self) -> None:
        """Kill the processes: what they had not committed rolls back."""
        for process in self._processes:
            process.kill()
        self._reap()

    def _answered(self, process: HandlerProcess) -> None:
        self._settle(process)

    def _settle(self, process: HandlerProcess, timeout: float | None = None) -> None:
        try:
            settle = process.end(timeout)
        except EOFError:
            self._replace(process)
            return
        if settle:
            # First: the process works on while this one settles.
            self._start_next()
            settle()

    def _start_next(self) -> None:
        for process in self._processes:
            if not self._waiting:
                return
            if process.job is None:
                process.start(self._waiting.popleft())

    def _replace(self, process: HandlerProcess) -> None:
        self._processes.remove(process)
        if self._hub:
            self._hub.remove(process.fileno())
        job, error = process.job, process.lost()
        if job is None:
            log.error("idle handler process ended", extra={"reason": str(error)})
            return
        if self.active:
            self._replenish()
        job.failed(error)

    def _check(self) -> None:
        for process in self._processes:
            process.check_limits()
        self._replenish()
        self._start_next()

    def _replenish(self) -> None:
        while len(self._processes) < self.limit:
            app, hostname = self.options["initargs"]
            process = HandlerProcess(app, hostname, self._processes)
            self._processes.append(process)
            if self._hub:
                self._hub.add_reader(process.fileno(), self._answered, process)

    def _reap(self) -> None:
        deadline = time.monotonic() + END_LIMIT
        for process in self._processes:
            process.kill_after(max(0.0, deadline - time.monotonic()))
            process.lost()
        self._processes.clear()
