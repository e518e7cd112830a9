"""Starts the system's programs as forks of a process that has loaded their libraries.

A program's own start takes over a second of processor time, most of it for imports, and a run of
the tests starts many hundreds. Each one is a process with a session, an environment and files of
its own, as if it had been executed, but for its command line. What must be executed itself, such as
a program with a preloaded library, is left to `subprocess`.
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

#: What the interpreter has read before it can be set.
INTERPRETERS = {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}

#: Seconds for a fork.
_PATIENCE = 60.0


class Launched:
    """A process that was started here; the part of `subprocess.Popen` that the tests use."""

    def __init__(self, launcher: "Launcher", pid: int) -> None:
        """`pid` is of a process that `launcher` waits for."""
        self.pid = pid
        self._launcher = launcher

    def poll(self) -> int | None:
        """Return how the process ended, a negative signal or a status; None while it runs."""
        return self._launcher.status(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Return how the process ended.

        Raises `subprocess.TimeoutExpired` if it has not after `timeout` seconds.
        """
        deadline = time.monotonic() + (inf if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(0.02)
        return status

    def terminate(self) -> None:
        """Send SIGTERM if the process has not ended."""
        if self.poll() is None:
            os.kill(self.pid, SIGTERM)


class Launcher:
    """The process that forks, and the socket to it."""

    def __init__(self) -> None:
        own, other = socket.socketpair()
        self._lock = Lock()
        self._socket = own
        self._read = b""
        self._started: list[int] = []
        self._ended: dict[int, int] = {}
        # It must not outlive a killed test run, nor its children it.
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            sys.executable,
            "-m",
            "testkit.processes.forking",
        ]
        self._process = subprocess.Popen(
            [*command, str(other.fileno())],
            cwd=REPOSITORY,
            env=os.environ | INTERPRETERS,
            stdin=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
            start_new_session=True,
        )
        other.close()

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> Launched:
        """Start a console script of this environment, or `python -m MODULE`.

        `log` gets what it writes.
        """
        request = {"command": command, "environment": environment, "log": str(log)}
        with self._lock:
            self._socket.settimeout(_PATIENCE)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while not self._started:
                self._receive(_PATIENCE)
            return Launched(self, self._started.pop())

    def status(self, pid: int) -> int | None:
        """Return how a process ended; None while it runs."""
        with self._lock:
            with suppress(BlockingIOError):
                self._receive(0.0)
            return self._ended.get(pid)

    def _receive(self, timeout: float) -> None:
        """Record all answers that have arrived; waits for one for `timeout` seconds."""
        self._socket.settimeout(timeout)
        received = self._socket.recv(65_536)
        if not received:
            raise RuntimeError("the process that forks the programs has ended")
        self._read += received
        *lines, self._read = self._read.split(b"\n")
        for answer in map(json.loads, lines):
            if answer["status"] is None:
                self._started.append(answer["pid"])
                # The number may have been that of a process before.
                self._ended.pop(answer["pid"], None)
            else:
                self._ended[answer["pid"]] = answer["status"]


@cache
def launcher() -> Launcher:
    """Return the one of this process, which starts with the first call."""
    return Launcher()
