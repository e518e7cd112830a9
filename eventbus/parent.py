"""Termination of a child process when its parent exits, even if the parent is killed."""

import ctypes
import os
import signal
import sys

#: The option of Linux's `prctl` (from <sys/prctl.h>) that sets the signal that a process receives
#: when its parent exits.
_PR_SET_PDEATHSIG = 1


def exit_with(parent: int, number: signal.Signals) -> None:
    """Let this process receive a signal when its parent exits; only Linux supports this.

    The kernel sends the signal when the thread that forked exits: fork in the main thread. Raise
    `SystemExit` if `parent`, a process id, has already exited.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        raise SystemExit("the parent process has exited")
