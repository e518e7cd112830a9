"""Waits until started processes are healthy, and detects those that never will be."""

import time
from collections import defaultdict
from collections.abc import Iterable

from deploy.local.problem import Problem, last_words
from deploy.local.processes.process import Process
from deploy.local.processes.supervision import Report, Supervision
from deploy.local.progress import step
from deploy.local.state import StateDirectory

#: Seconds that all processes together may take.
PATIENCE = 180.0

#: Number of starts after which a process that keeps exiting is not restarted.
ATTEMPTS = 3

#: Seconds between two checks.
INTERVAL = 0.2


def ailment(process: Process, report: Report | None) -> str | None:
    """Return the problem of a process, or None if it is healthy."""
    if report is None:
        return "not running"
    if not report.runs:
        return report.state.lower()
    return process.check()


class Watch:
    """Checks processes until all of them are healthy."""

    def __init__(self, state: StateDirectory, supervision: Supervision) -> None:
        self._state = state
        self._supervision = supervision
        self._starts: dict[str, set[int]] = defaultdict(set)

    def until_healthy(self, processes: Iterable[Process]) -> None:
        """Wait for each process in turn, showing a line for each.

        Raises `Problem` naming the first process that keeps exiting, or is not healthy in time, and
        its log.
        """
        processes = tuple(processes)
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            with step(f"waiting for {process.name}"):
                while problem := self._check(process, processes):
                    if time.monotonic() > deadline:
                        raise self._problem(process, f"is not healthy: {problem}")
                    time.sleep(INTERVAL)

    def _check(self, process: Process, all_processes: Iterable[Process]) -> str | None:
        reports = self._supervision.reports()
        for other in all_processes:
            report = reports.get(other.name)
            if report is None:
                raise self._problem(other, "is no longer supervised")
            self._starts[other.name].add(report.started_at)
            if report.state == "FATAL" or len(self._starts[other.name]) > ATTEMPTS:
                raise self._problem(other, "keeps exiting")
        return ailment(process, reports.get(process.name))

    def _problem(self, process: Process, text: str) -> Problem:
        log = self._state.log(process.name)
        reason = last_words(log)
        return Problem(f"{process.name} {text}; see {log}" + (f" ({reason})" if reason else ""))
