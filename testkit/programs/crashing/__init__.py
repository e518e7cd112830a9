"""Variants of the real processes, each of which is killed once at the most critical moment."""

import os
import signal


def die() -> None:
    """Kill this process and its group, as a power failure would."""
    os.killpg(0, signal.SIGKILL)
