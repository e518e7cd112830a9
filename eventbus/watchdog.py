"""The watchdog of an event loop, which terminates the process if the loop stalls.

A stalled process is still running and still connected to the broker. Without a watchdog, it would
therefore not be detected until the acknowledgement timeout of half an hour.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from eventbus.health_file import HealthFile
from eventbus.termination import terminate

log = logging.getLogger(__name__)

#: Seconds without an iteration of the event loop after which the process exits. Each wait in the
#: loop has a limit of a few seconds.
LIMIT = 60.0

#: Seconds between two touches of the health file.
INTERVAL = 2.0


class Watchdog:
    """A thread that watches one event loop, and a health file that shows the loop's progress.

    The file's age shows whether the process is alive; its text states why the process is not
    working.
    """

    def __init__(self, health_file: Path | None, *, state: Callable[[], str]) -> None:
        """`state` returns the file's text."""
        self._file = HealthFile(health_file)
        self._state = state
        self._turned_at = self._touched_at = time.monotonic()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self.turned()
        self._touch()
        self._thread.start()

    def turned(self) -> None:
        """Record an iteration of the event loop; this must be called every few seconds."""
        self._turned_at = time.monotonic()
        if self._turned_at - self._touched_at >= INTERVAL:
            self._touch()

    def _touch(self) -> None:
        self._touched_at = time.monotonic()
        self._file.write(self._state())

    def _watch(self) -> None:
        while (stalled := time.monotonic() - self._turned_at) < LIMIT:
            time.sleep(INTERVAL)
        terminate(log, "event loop stalled, process terminated", extra={"seconds": round(stalled)})
