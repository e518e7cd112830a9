"""A wall clock for one process, which a test steps while the process runs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shifted_clock.c")


@dataclass(frozen=True)
class Clock:
    """The wall clock of one process; its monotonic clock is everybody's."""

    file: Path
    library: Path

    @classmethod
    def at(cls, directory: Path) -> "Clock":
        """Return a clock that shows the time, and keeps its files in a directory of its own."""
        directory.mkdir(parents=True)
        clock = cls(directory / "shift", directory / "clock.so")
        options = ("-shared", "-fPIC", "-O1", "-o", str(clock.library))
        subprocess.run(["gcc", *options, str(SOURCE), "-ldl"], check=True)
        clock.set(0)
        return clock

    def set(self, seconds: int) -> None:
        """Let the clock be so many seconds ahead of the time, or behind it."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        # At once: a process that reads meanwhile finds the old shift or the new one.
        new.rename(self.file)

    @property
    def environment(self) -> dict[str, str]:
        """What gives a process this clock."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_FILE": str(self.file)}
