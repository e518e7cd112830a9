"""The health file of a process: its age shows whether the process makes progress."""

import logging
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)


class HealthFile:
    """A file that is written every few seconds while the process makes progress."""

    def __init__(self, path: Path | None) -> None:
        """Without a path, nothing is written."""
        self._path = path
        self._is_failing = False

    def write(self, state: str = "") -> None:
        """Write the file; its text states why the process is not working, if it is not.

        A failure is logged only once, rather than every two seconds while the disk is full.
        """
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # A probe must not read an empty file, which would count as ready.
            written = self._path.with_name(f"{self._path.name}.new")
            written.write_text(f"{state}\n" if state else "")
            written.replace(self._path)
        except OSError as error:
            # A full disk must not stop the work; a supervisor detects that the file is stale.
            if not self._is_failing:
                log.error("health file not written", extra={"reason": str(error)})
            self._is_failing = True
        else:
            self._is_failing = False

    def remove(self) -> None:
        """Delete the file, because the process ends."""
        if self._path:
            with suppress(OSError):
                self._path.unlink()
