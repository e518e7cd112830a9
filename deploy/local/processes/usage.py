"""What a process uses, with all that it has started: CPU time, and memory in bytes."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.processes import leftovers

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU since their start, and bytes of memory.

    What several processes share counts once, in parts (Linux's PSS).
    """

    cpu: float = 0.0
    memory: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, self.memory + other.memory)


def usage(pid: int) -> Usage:
    """Return what a process uses now; what has ended, or may not be looked at, uses nothing."""
    return sum((_own(member) for member in leftovers.family({pid})), Usage())


def _own(pid: int) -> Usage:
    cpu, memory = 0.0, 0
    with suppress(OSError):
        # The name, in brackets, may itself hold brackets and spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                memory = int(line.split()[1]) * 1024
    return Usage(cpu, memory)
