"""Loops: repeated work of a process, each on its own thread and timed by a monotonic clock.

A loop requires neither a message nor a connection: a message can only wake it early. A process is
alive while all of its loops make progress, and exits as soon as a loop stalls.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread

from eventbus.health_file import HealthFile
from eventbus.termination import terminate

log = logging.getLogger(__name__)

#: A function that runs one step of a loop and returns by the deadline (`time.monotonic()`) that it
#: is passed.
Step = Callable[[float], object]

#: Seconds from the start of one step to the start of the next.
INTERVAL = 1.0

#: Seconds after which a process exits if a step has not ended, or if all steps have failed. Every
#: wait in a step has its own limit; the sum of several limits is below this limit.
LIMIT = 60.0

#: Seconds between two checks of all loops, after each of which the health file is touched.
WATCH_INTERVAL = 2.0

#: Seconds that an exiting process waits for the current step. The value is shorter than the grace
#: period of any supervisor (30 or more), so the process exits in time.
PATIENCE = 20.0


class Loop:
    """A step that is repeated until the loop is stopped.

    A step that raises is logged and repeated; the other loops of the process continue.
    """

    def __init__(
        self, name: str, step: Step, *, interval: float = INTERVAL, limit: float = LIMIT
    ) -> None:
        """`interval` and `limit` are in seconds; see `INTERVAL` and `LIMIT` for the reasons."""
        self.name = name
        self.limit = limit
        self._step = step
        self._interval = interval
        self._wake = Event()
        self._stopping = False
        #: The start of the current step and of the first step in a series of failures, each None if
        #: there is none.
        self._busy_since: float | None = None
        self._failing_since: float | None = None
        # The thread is a daemon, so work that a step has not committed after `PATIENCE` is rolled
        # back.
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def wake(self) -> None:
        """Start the next step now, or immediately after the current step."""
        self._wake.set()

    def stop(self) -> None:
        """Prevent further steps, without waiting for the current step."""
        self._stopping = True
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait until a stopped loop has ended, for at most `seconds`."""
        self._thread.join(seconds)

    def stands_still_for(self) -> float:
        """Return the seconds since a step last succeeded, or 0 if the last step succeeded."""
        starts = [start for start in (self._busy_since, self._failing_since) if start is not None]
        return time.monotonic() - min(starts) if starts else 0.0

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._run_step()
        except BaseException:
            # Some of these exceptions, such as `SystemExit`, would end a thread without a
            # traceback.
            terminate(log, "loop crashed", extra={"loop": self.name}, exc_info=sys.exc_info())

    def _run_step(self) -> None:
        started = self._busy_since = time.monotonic()
        try:
            self._step(started + self._interval)
        except Exception:
            self._record_failure(started)
        else:
            if self._failing_since is not None:
                log.info("loop recovered", extra={"loop": self.name})
            self._failing_since = None
        self._busy_since = None
        self._wake.wait(max(0.0, started + self._interval - time.monotonic()))
        self._wake.clear()

    def _record_failure(self, started: float) -> None:
        # Log one traceback for each series of failures, rather than one per second.
        if self._failing_since is None:
            self._failing_since = started
            log.exception("loop step failed", extra={"loop": self.name})


class Loops:
    """The loops of one process, and the watchdog that terminates it if one of them stalls."""

    def __init__(self, loops: Sequence[Loop], *, health_file: Path | None) -> None:
        """`health_file` is touched while no loop stalls; the first loop is the main one."""
        self._loops = loops
        self._health_file = HealthFile(health_file)
        self._stopped = Event()
        self._watchdog = Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start every loop."""
        for loop in self._loops:
            loop.start()
        self._watchdog.start()

    def wake(self) -> None:
        """Wake the first loop."""
        self._loops[0].wake()

    def stop(self) -> None:
        """Prevent further steps, without waiting."""
        self._stopped.set()
        for loop in self._loops:
            loop.stop()

    def join(self) -> None:
        """Wait for at most `PATIENCE` until the first loop has ended; remove the health file.

        The other loops are interrupted: their transactions roll back, and they have no external
        side effects.
        """
        self._loops[0].join(PATIENCE)
        self._watchdog.join(PATIENCE)
        self._health_file.remove()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            for loop in self._loops:
                if (seconds := loop.stands_still_for()) > loop.limit:
                    fields = {"loop": loop.name, "seconds": round(seconds)}
                    terminate(log, "loop stalled, process terminated", extra=fields)
            self._health_file.write()
            self._stopped.wait(WATCH_INTERVAL)
