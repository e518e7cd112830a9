"""The real processes, each killed once at the worst moment: what a test starts in their place."""

import os
import signal


def die() -> None:
    """End this process and its group at once, as a power cut would."""
    os.killpg(0, signal.SIGKILL)
