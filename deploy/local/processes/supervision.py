"""The supervisor of a local run: keeps its processes alive after the command that started them."""

# ruff: noqa: S603, every command is a list of this project's constants

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from supervisor.xmlrpc import Faults, SupervisorTransport, UnixStreamHTTPConnection

from deploy.local.problem import Problem, last_words
from deploy.local.processes import leftovers
from deploy.local.processes.process import Process
from deploy.local.servers.account import invoking
from deploy.local.state import StateDirectory
from deploy.local.templates import render

#: Seconds that the supervisor itself may take until its first response.
START_PATIENCE = 10.0

#: Seconds for a response of the supervisor. One that does not respond counts as not running: it is
#: stopped, and replaced by another one.
CALL_PATIENCE = 20.0

#: Seconds to stop everything; more than the limit of any one group of processes.
STOP_PATIENCE = 150.0


@dataclass(frozen=True)
class Report:
    """The supervisor's report on one process; times in seconds since the epoch."""

    state: str
    pid: int
    started_at: int
    now: int
    reason: str

    @property
    def runs(self) -> bool:
        """Whether it is running or starting."""
        return self.state in {"RUNNING", "STARTING"}

    @property
    def uptime(self) -> int:
        """Seconds since it was started."""
        return self.now - self.started_at if self.runs else 0


class Stopping(Problem):
    """The supervisor is stopping its processes, and accepts no other command until then."""

    def __init__(self) -> None:
        super().__init__("the processes are stopping; wait until they have exited, and try again")


class _Connection(UnixStreamHTTPConnection):
    """A connection to the supervisor that waits for each response for a limited time."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self.socketfile = path

    def connect(self) -> None:
        """Connect; the base class ignores the timeout."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.socketfile)


class Supervision:
    """The supervisor of one state directory."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._programs = Path(sys.executable).parent

    @property
    def _configuration(self) -> Path:
        return self._state.path / "supervisord.conf"

    def _call(self, method: str, *arguments: Any, within: float | None = None) -> Any:
        # Each call uses a new connection, because a connection that fails during a call remains
        # unusable.
        path = f"{self._state.path}/supervisor.sock"
        transport = SupervisorTransport(None, None, f"unix://{path}")
        transport._get_connection = lambda: _Connection(path, within or CALL_PATIENCE)
        try:
            proxy = ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        except Fault as fault:
            if fault.faultCode == Faults.SHUTDOWN_STATE:
                raise Stopping from None
            raise
        finally:
            transport.close()

    def _command(self, method: str, *arguments: Any, within: float | None = None) -> Any:
        """Call the supervisor, which must respond. Raises `Problem` if it does not."""
        try:
            return self._call(method, *arguments, within=within)
        except (OSError, HTTPException):
            raise self._silent() from None

    def _silent(self) -> Problem:
        return Problem(f"supervisord does not respond; see {self._state.log('supervisord')}")

    def _run(self, *command: str, within: float) -> "subprocess.CompletedProcess[str]":
        """Run a program of the supervisor. Raises `Problem` if it takes too long."""
        try:
            return subprocess.run(
                command,
                check=False,
                start_new_session=True,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=within,
            )
        except subprocess.TimeoutExpired:
            raise self._silent() from None

    def runs(self) -> bool:
        """Return whether the supervisor responds. Raises `Stopping`."""
        try:
            self._call("getState")
        except (OSError, HTTPException):
            return False
        return True

    def configure(self, groups: Mapping[str, Sequence[Process]]) -> None:
        """Write the supervisor's configuration, which a running one applies on `update`."""
        _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = hard_limit == resource.RLIM_INFINITY
        text = render(
            "supervisord.conf.j2",
            groups=groups,
            path=self._state.path,
            root=os.geteuid() == 0,
            uid=os.geteuid(),
            open_files=8192 if unlimited else min(8192, hard_limit),
        )
        invoking().file(self._configuration, text)

    def launch(self) -> None:
        """Start the supervisor, detached from this command, without its processes.

        Raises `Problem` if it does not respond.
        """
        log = self._state.log("supervisord")
        daemon = str(self._programs / "supervisord")
        done = self._run(daemon, "-c", str(self._configuration), within=CALL_PATIENCE)
        if done.returncode != 0:
            raise Problem(f"supervisord did not start: {done.stdout.strip() or last_words(log)}")
        self.await_answer()

    def launch_attached(self) -> "subprocess.Popen[bytes]":
        """Start the supervisor as a child that exits with this process, even after a SIGKILL."""
        daemon = [str(self._programs / "supervisord"), "-n", "-c", str(self._configuration)]
        child = subprocess.Popen(
            ["/usr/bin/setpriv", "--pdeathsig", "TERM", *daemon],
            env=self.environment(),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.await_answer()
        return child

    def environment(self) -> dict[str, str]:
        """Return the environment of every process, which inherits nothing from the caller."""
        return {
            "PATH": f"{self._programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self._state.path),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self._state.temporary),
            leftovers.MARK: str(self._state.path),
        }

    def await_answer(self) -> None:
        """Wait until the supervisor responds. Raises `Problem` if it does not."""
        deadline = time.monotonic() + START_PATIENCE
        while not self.runs():
            if time.monotonic() > deadline:
                raise self._silent()
            time.sleep(0.05)

    def is_outdated(self) -> bool:
        """Return whether the running supervisor differs from its configuration."""
        return any(any(groups) for groups in self._command("reloadConfig"))

    def update(self) -> None:
        """Apply the configuration to the running supervisor; changed processes are stopped.

        Raises `Problem` if that fails or takes too long.
        """
        ctl = str(self._programs / "supervisorctl")
        done = self._run(ctl, "-c", str(self._configuration), "update", within=STOP_PATIENCE)
        if done.returncode != 0:
            raise Problem(f"supervisorctl update failed: {done.stdout} {done.stderr}")

    def reports(self) -> dict[str, Report]:
        """Return the supervisor's reports by process name, empty if it does not respond.

        Raises `Stopping`.
        """
        try:
            infos = self._call("getAllProcessInfo")
        except (OSError, HTTPException):
            return {}
        return {
            info["name"]: Report(
                info["statename"], info["pid"], info["start"], info["now"], info["spawnerr"]
            )
            for info in infos
        }

    def start(self, group: str, processes: Iterable[Process]) -> None:
        """Start these processes of a group, without waiting for them.

        Raises `Problem` if one of them cannot be started.
        """
        for process in processes:
            self._state.log(process.name).touch(0o600)
            try:
                self._command("startProcess", f"{group}:{process.name}", False)
            except Fault as fault:
                if fault.faultCode != Faults.ALREADY_STARTED:
                    raise Problem(f"{process.name} cannot start: {fault.faultString}") from None

    def kill(self, group: str, process: Process) -> None:
        """Stop one process by its stop signal; it stays down until it is started."""
        seconds = process.stop_seconds + CALL_PATIENCE
        self._command("stopProcess", f"{group}:{process.name}", within=seconds)

    def stop(self) -> int:
        """Stop everything, in order, and verify it; return the number of processes.

        If the supervisor is stopping already, wait until it has exited.
        """
        pids = leftovers.find(self._state)
        if self._shuts_down():
            leftovers.wait_for_end(pids, STOP_PATIENCE)
        # The remaining processes were left by a killed supervisor, or have ignored the signal.
        return max(len(pids), leftovers.stop(self._state))

    def _shuts_down(self) -> bool:
        """Make the supervisor stop its processes; return False if it is not running."""
        try:
            self._call("shutdown")
        except Stopping:
            return True
        except (OSError, HTTPException):
            return False
        return True
