"""The launcher of programs, each a fork of a process that has loaded the programs' libraries.

The start of a program takes over a second of CPU time, most of it for imports, and a test run
starts many hundreds of programs. Each fork has its own session, environment and files, as if the
program had been executed, but not its own command line. A program that must be executed, such as a
program with a preloaded C library, is named by its absolute path.

All programs end with this process, even if it is killed.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from math import inf
from pathlib import Path
from signal import SIGTERM
from threading import Lock

from deploy.local import REPOSITORY

#: Variables that the interpreter reads at its start, before a fork can set them.
INTERPRETERS = {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}

#: Maximum seconds for a fork.
_PATIENCE = 60.0


class Launched:
    """A forked process, with the part of the interface of `subprocess.Popen` that tests use."""

    def __init__(self, launcher: "Launcher", pid: int) -> None:
        """`pid` belongs to a child of the launcher's process."""
        self.pid = pid
        self._launcher = launcher

    def poll(self) -> int | None:
        """Return the exit status, or the negative number of a signal, or None while it runs."""
        return self._launcher.status(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, or the negative number of a signal.

        Raises `subprocess.TimeoutExpired` if the process still runs after `timeout` seconds.
        """
        deadline = time.monotonic() + (inf if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.02)
        return status

    def terminate(self) -> None:
        """Send SIGTERM if the process has not exited."""
        if self.poll() is None:
            os.kill(self.pid, SIGTERM)


class Launcher:
    """The process that forks, and the socket to it."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        self._lock = Lock()
        self._socket = near
        self._read = b""
        self._started: list[int] = []
        self._ended: dict[int, int] = {}
        # The process kills its programs and exits when this process has exited.
        command = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            sys.executable,
            "-m",
            "testkit.processes.forking",
        ]
        self._process = subprocess.Popen(
            [*command, str(far.fileno())],
            cwd=REPOSITORY,
            env=os.environ | INTERPRETERS,
            stdin=subprocess.DEVNULL,
            pass_fds=[far.fileno()],
            start_new_session=True,
        )
        far.close()

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Launched:
        """Start `celery`, `python -m MODULE`, or an executable by its absolute path.

        Its output is appended to `log`.
        """
        request = {"command": command, "environment": environment, "log": str(log)}
        with self._lock:
            self._socket.settimeout(_PATIENCE)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while not self._started:
                self._receive(_PATIENCE)
            return Launched(self, self._started.pop())

    def status(self, pid: int) -> int | None:
        """Return the exit status of a process, or None while it runs."""
        with self._lock:
            with suppress(BlockingIOError):
                self._receive(0.0)
            return self._ended.get(pid)

    def _receive(self, timeout: float) -> None:
        """Record the replies that have arrived, waiting up to `timeout` seconds for the first."""
        self._socket.settimeout(timeout)
        received = self._socket.recv(65_536)
        if not received:
            raise RuntimeError("the process that forks the programs has exited")
        self._read += received
        *lines, self._read = self._read.split(b"\n")
        for reply in map(json.loads, lines):
            if reply["status"] is None:
                self._started.append(reply["pid"])
                # An earlier process may have had the same pid.
                self._ended.pop(reply["pid"], None)
            else:
                self._ended[reply["pid"]] = reply["status"]


@cache
def launcher() -> Launcher:
    """Return the launcher of this process, which the first call starts."""
    return Launcher()
