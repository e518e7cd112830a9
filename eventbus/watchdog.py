"""The watchdog of an event loop: a process whose loop stands still ends itself.

Nothing else would end it: a supervisor sees that the process runs, and the broker that its
connection is open, until it has waited half an hour for an acknowledgement.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

log = logging.getLogger(__name__)

#: Seconds without a turn of the loop after which the process ends. Each wait in the loop has a
#: limit of a few seconds.
LIMIT = 60.0

#: Seconds between two touches of the health file.
INTERVAL = 2.0


class Watchdog:
    """Watches one event loop, and shows in the health file that it turns.

    The file's age tells that the process lives; its text tells what keeps it from working.
    """

    def __init__(self, health_file: Path | None, *, state: Callable[[], str]) -> None:
        """`state` returns the file's text."""
        self._file = health_file
        self._state = state
        self._turned_at = self._touched_at = time.monotonic()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.turned()
        self._touch()
        self._thread.start()

    def turned(self) -> None:
        """Note a turn of the loop; call it every few seconds."""
        self._turned_at = time.monotonic()
        if self._turned_at - self._touched_at >= INTERVAL:
            self._touch()

    def _touch(self) -> None:
        self._touched_at = time.monotonic()
        if not self._file:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(f"{self._state()}\n")
        except OSError as error:
            # A full disk stops no work; a supervisor that reads the file sees it grow old.
            log.error("health file not written", extra={"reason": str(error)})

    def _watch(self) -> None:
        while (stalled := time.monotonic() - self._turned_at) < LIMIT:
            time.sleep(INTERVAL)
        log.critical("event loop stands still; the process ends", extra={"seconds": round(stalled)})
        # At once: an orderly end would wait for the loop.
        os._exit(os.EX_SOFTWARE)
