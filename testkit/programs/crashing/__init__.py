"""Variants of the real processes, each killed once at its worst moment."""

import os
import signal


def die() -> None:
    """Kill this process and its group, as a power failure would."""
    os.killpg(0, signal.SIGKILL)
