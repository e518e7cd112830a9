"""A wall clock for one process, which a test can step while the process runs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shifted_clock.c")


@dataclass(frozen=True)
class Clock:
    """The wall clock of one process, whose monotonic clock is not shifted."""

    file: Path
    library: Path

    @classmethod
    def at(cls, directory: Path) -> "Clock":
        """Return a clock without a shift, whose files are in a new directory."""
        directory.mkdir(parents=True)
        clock = cls(directory / "shift", directory / "clock.so")
        options = ("-shared", "-fPIC", "-O1", "-o", str(clock.library))
        subprocess.run(["gcc", *options, str(SOURCE), "-ldl"], check=True)
        clock.set(0)
        return clock

    def set(self, seconds: int) -> None:
        """Set the clock this many seconds ahead of the time, or behind it if negative."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        # The replacement is atomic, so a concurrent reader gets either the old or the new shift.
        new.rename(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a process with this clock."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_FILE": str(self.file)}
