"""Loops: work that a process repeats, each piece on a thread of its own, by a monotonic clock.

A loop needs neither a message nor a connection to turn: a message can only wake it early. A
process is alive while all of its loops turn, and ends as soon as one of them does not.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import NoReturn

log = logging.getLogger(__name__)

#: One piece of work. It gets a deadline (`time.monotonic()`) and works until then at the latest.
Step = Callable[[float], object]

#: Seconds from the start of one step to the start of the next.
INTERVAL = 1.0

#: Seconds after which a step that has not ended, or steps that all failed, end the process. Every
#: wait in a step has a limit of its own; the sum of several is below this.
LIMIT = 60.0

#: Seconds between two checks of all loops, and so between two touches of the health file.
WATCH_INTERVAL = 2.0

#: Seconds that a process which ends waits for the step under way. Shorter than what any supervisor
#: grants (30 or more), so that the process ends by itself.
PATIENCE = 20.0


class Loop:
    """Repeats one step until it is stopped.

    A step that raises is logged and repeated: its neighbours in the process go on meanwhile.
    """

    def __init__(
        self, name: str, step: Step, *, interval: float = INTERVAL, limit: float = LIMIT
    ) -> None:
        """`interval` and `limit` are in seconds; the constants of these names give the reasons."""
        self.name = name
        self.limit = limit
        self._step = step
        self._interval = interval
        self._wake = Event()
        self._stopping = False
        #: When the step under way began, and the first one of those that failed; None if there is
        #: none.
        self._busy_since: float | None = None
        self._failing_since: float | None = None
        # A daemon: what a step has not committed after `PATIENCE` rolls back.
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to turn."""
        self._thread.start()

    def wake(self) -> None:
        """Start the next step now if the loop waits for it; nothing otherwise."""
        self._wake.set()

    def stop(self) -> None:
        """Turn no more once the step under way has ended; does not wait."""
        self._stopping = True
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait until a stopped loop has ended, for so many seconds at most."""
        self._thread.join(seconds)

    def stands_still_for(self) -> float:
        """Return the seconds since which no step has succeeded, 0 while the loop waits its turn."""
        began = [since for since in (self._busy_since, self._failing_since) if since is not None]
        return time.monotonic() - min(began) if began else 0.0

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except BaseException:
            # Also what a thread would end with in silence, such as a `SystemExit`.
            log.critical("loop crashed", extra={"loop": self.name}, exc_info=True)
            _end()

    def _turn(self) -> None:
        began = self._busy_since = time.monotonic()
        try:
            self._step(began + self._interval)
        except Exception:
            self._note_failure(began)
        else:
            if self._failing_since is not None:
                log.info("loop recovered", extra={"loop": self.name})
            self._failing_since = None
        self._busy_since = None
        self._wake.wait(max(0.0, began + self._interval - time.monotonic()))
        self._wake.clear()

    def _note_failure(self, began: float) -> None:
        # One trace for each run of failures, not one a second.
        if self._failing_since is None:
            self._failing_since = began
            log.exception("loop step failed", extra={"loop": self.name})


class Loops:
    """The loops of one process, and the watchdog that ends the process when one stands still."""

    def __init__(self, loops: Sequence[Loop], *, health_file: Path | None) -> None:
        """`health_file` is touched while all loops turn; the first loop is the process's work."""
        self._loops = loops
        self._health_file = health_file
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
        """Let no further step start; does not wait."""
        self._stopped.set()
        for loop in self._loops:
            loop.stop()

    def join(self) -> None:
        """Wait for the first loop to end, for `PATIENCE` at most, and remove the health file.

        The others are cut off: their transactions roll back, and nothing outside depends on them.
        """
        self._loops[0].join(PATIENCE)
        self._watchdog.join(PATIENCE)
        if self._health_file:
            with suppress(OSError):
                self._health_file.unlink()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            for loop in self._loops:
                if (seconds := loop.stands_still_for()) > loop.limit:
                    about = {"loop": loop.name, "seconds": round(seconds)}
                    log.critical("loop stands still; the process ends", extra=about)
                    _end()
            self._touch()
            self._stopped.wait(WATCH_INTERVAL)

    def _touch(self) -> None:
        if not self._health_file:
            return
        try:
            self._health_file.parent.mkdir(parents=True, exist_ok=True)
            self._health_file.touch()
        except OSError as error:
            # A full disk stops no work; a supervisor that reads the file sees it grow old.
            log.error("health file not written", extra={"reason": str(error)})


def _end() -> NoReturn:
    # At once: a hung step may hold any lock that an orderly end would wait for. What it had not
    # committed rolls back.
    os._exit(os.EX_SOFTWARE)
