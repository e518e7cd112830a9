"""Real processes with a bug of `testkit.simulation.planted_bugs`, which `$PLANTED_BUG` names."""

import os

from testkit.simulation import planted_bugs


def plant() -> None:
    """Plant the bug in this process, until it exits."""
    bug = next(bug for bug in planted_bugs.BUGS if bug.__name__ == os.environ["PLANTED_BUG"])
    bug().__enter__()
