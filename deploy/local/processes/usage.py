"""The resource usage of a process and its descendants: CPU time, and memory in bytes."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.processes import leftovers

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU since the start, and bytes of memory.

    Memory that processes share counts once, divided among them (Linux's PSS).
    """

    cpu: float = 0.0
    memory: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, self.memory + other.memory)


def usage(pid: int) -> Usage:
    """Return the current usage; a process that has exited or is inaccessible counts as zero."""
    return sum((_usage_of_one(member) for member in leftovers.family({pid})), Usage())


def _usage_of_one(pid: int) -> Usage:
    cpu, memory = 0.0, 0
    with suppress(OSError):
        # The name, in brackets, may itself contain brackets and spaces.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                memory = int(line.split()[1]) * 1024
    return Usage(cpu, memory)
