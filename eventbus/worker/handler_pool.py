"""A worker's pool of child processes, each of which handles one batch at a time.

Celery's prefork pool sends two responses per call, and needs an iteration of the event loop for
each part of a message. In profiles, this took a third of the CPU time of a worker's main process.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from celery.concurrency.base import BasePool

from eventbus.telemetry.privacy import described
from eventbus.worker.handler_process import END_LIMIT, HandlerProcess, Job

log = logging.getLogger(__name__)

#: Seconds between two checks of the time limits and of the number of processes. This also limits
#: the rate at which processes that exit without a job are replaced, for example if they cannot
#: start.
CHECK_INTERVAL = 1.0


class HandlerPool(BasePool):
    """Celery's `worker_pool`; `apply_async` has the parameters of Celery's `BasePool`."""

    def on_start(self) -> None:
        """Fork the processes."""
        self._processes: list[HandlerProcess] = []
        #: The reason why the last process could not be started.
        self._problem: str | None = None
        #: Jobs that wait for an idle process, which is possible after a reconnect.
        self._waiting: deque[Job] = deque()
        self._hub: Any = None
        self._timer: Any = None
        self._replenish()

    def register_with_event_loop(self, hub: Any) -> None:
        """Register the readers of results, which the event loop of a new connection lacks."""
        self._hub = hub
        for process in self._processes:
            hub.add_reader(process.fileno(), self._on_result, process)
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
        """Call `target` in the next idle process; a stopping pool ignores the call."""
        if not self.active:
            return
        job = Job(target, args, callback, error_callback, soft_timeout, timeout)
        self._waiting.append(job)
        self._start_next()

    def on_stop(self) -> None:
        """Wait for running jobs, within their time limits, and stop the processes."""
        self._waiting.clear()
        while busy := [process for process in self._processes if process.job]:
            for process in busy:
                self._check_process(process)
            for process in busy:
                if process in self._processes:
                    self._settle(process, timeout=CHECK_INTERVAL / 10)
        for process in self._processes:
            process.close()
        self._reap()

    def on_terminate(self) -> None:
        """Kill the processes; uncommitted transactions roll back."""
        for process in self._processes:
            process.kill()
        self._reap()

    def _on_result(self, process: HandlerProcess) -> None:
        self._settle(process)

    def _settle(self, process: HandlerProcess, timeout: float | None = None) -> None:
        try:
            settle = process.end(timeout)
        except EOFError:
            self._replace(process)
            return
        if settle:
            # The next job starts before the last is settled, so that the child works in the
            # meantime.
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
            log.error("idle handler process ended", extra={"reason": described(error)})
            return
        if self.active:
            self._replenish()
        job.failed(error)

    def _check(self) -> None:
        for process in tuple(self._processes):
            self._check_process(process)
        self._replenish()
        self._start_next()

    def _check_process(self, process: HandlerProcess) -> None:
        process.check_limits()
        if process.has_ended():
            self._replace(process)

    def _replenish(self) -> None:
        while len(self._processes) < self.limit:
            app, hostname = self.options["initargs"]
            try:
                process = HandlerProcess(app, hostname, self._processes)
            except OSError as error:
                # The system has no memory, processes or descriptors left. The next check retries.
                # Celery would mistake the error for a lost connection to the broker.
                self._log_problem(str(error))
                return
            self._log_problem(None)
            self._processes.append(process)
            if self._hub:
                self._hub.add_reader(process.fileno(), self._on_result, process)

    def _log_problem(self, problem: str | None) -> None:
        # The problem is logged once when it starts and once when it ends, not at each check.
        if problem and not self._problem:
            log.error("handler process not started", extra={"reason": problem})
        elif self._problem and not problem:
            log.info("handler processes started again")
        self._problem = problem

    def _reap(self) -> None:
        deadline = time.monotonic() + END_LIMIT
        for process in self._processes:
            process.kill_after(max(0.0, deadline - time.monotonic()))
            process.lost()
        self._processes.clear()
