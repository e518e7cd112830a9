"""The real processes of an installation: started, signalled, killed and awaited."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import httpx

from deploy.local import REPOSITORY
from deploy.local.processes.health import beats
from deploy.local.processes.programs import PROGRAMS, Health, Program, filled
from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.processes.clocks import Clock
from testkit.processes.launcher import INTERPRETERS, Launched, launcher
from testkit.system.environment import environment
from testkit.system.installation import Installation

#: Variables that must be set when a process imports its libraries, or earlier.
_EXECUTED = {"LD_PRELOAD", "PROMETHEUS_MULTIPROC_DIR"}

_PROGRAMS = {program.name: program for program in PROGRAMS}
_OPTIONAL = {"spans", "console"}
_DEFAULT = [p.name for p in PROGRAMS if p.name not in _OPTIONAL and p.health is not Health.METRICS]


@dataclass
class ProcessControl(Installation):
    """An installation and its processes, by the names under which they were started."""

    _running: dict[str, Launched] = field(default_factory=dict)

    def start(self, *names: str, module: str | None = None, alias: str | None = None) -> None:
        """Start programs by name, and wait until they are healthy.

        Without names, start all programs except monitoring, the console, and the span store,
        which `trace` starts. `module` replaces the module of a program's Celery app, `alias` its
        name.
        """
        programs = [_PROGRAMS[name] for name in names or _DEFAULT]
        for program in programs:
            self._launch(program, module, alias or program.name)
        for program in programs:
            self.wait_until_healthy(alias or program.name)

    def launch(self, name: str, module: str | None = None, *, alias: str | None = None) -> None:
        """Start a program, or a module instead of it, without waiting for its health."""
        self._launch(_PROGRAMS[name], module, alias or name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process, but not to its children."""
        os.kill(self._running[name].pid, number)

    def clock(self, name: str) -> Clock:
        """Return a new wall clock for a program that is not started yet."""
        self.clocks[name] = Clock.at(self.directory / "clocks" / name)
        return self.clocks[name]

    def health_file(self, name: str) -> Path:
        """Return the path of the file that a process touches while it is healthy."""
        return self.directory / "health" / name

    def pids(self) -> dict[str, list[int]]:
        """Return the pids of each running program, including its children."""
        groups: dict[int, list[int]] = {}
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()):
            with suppress(ProcessLookupError):
                groups.setdefault(os.getpgid(pid), []).append(pid)
        return {name: groups.get(process.pid, []) for name, process in self._running.items()}

    def children(self, name: str) -> list[int]:
        """Return the pids of a program's child processes, in ascending order."""
        main = self._running[name].pid
        return sorted(pid for pid in self.pids()[name] if pid != main)

    def wait_until_healthy(self, name: str) -> None:
        """Wait until a process reports that it is healthy."""

        def healthy() -> None:
            if self._running[name].poll() is not None:
                raise RuntimeError(f"{name} ended: {self.log(name)[-2000:]}")
            if port := _PROGRAMS[name].port if name in _PROGRAMS else "":
                url = f"http://127.0.0.1:{getattr(self.ports, port)}"
                path = "metrics" if _PROGRAMS[name].health is Health.METRICS else "readyz"
                assert _status(f"{url}/{path}") == 200
            elif not name.endswith("beat"):
                assert beats(self.health_file(name))() is None

        eventually(healthy)

    def close_connections(self, name: str) -> int:
        """Close a process's connections at the broker, and return their number."""
        listed = self.vhost.request("GET", f"/vhosts/{self.vhost.name}/connections").json()
        names = [c["name"] for c in listed if c.get("user_provided_name", "").startswith(name)]
        for connection in names:
            with suppress(httpx.HTTPStatusError):
                self.vhost.request("DELETE", f"/connections/{quote(connection, safe='')}")
        return len(names)

    def kill(self, name: str) -> None:
        """Kill a process and its children with SIGKILL."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.health_file(name).unlink(missing_ok=True)

    def shut_down(self, name: str) -> None:
        """Send SIGTERM to a process, as a supervisor does, and wait until it has exited."""
        self._running[name].terminate()
        self.wait_until_dead(name)

    def wait_until_dead(self, name: str) -> int:
        """Wait until a process has exited, and return its exit status."""
        # The process stays registered until it has exited, so that `stop` kills a process that does
        # not exit.
        status = self._running[name].wait(timeout=60)
        del self._running[name]
        self.health_file(name).unlink(missing_ok=True)
        return status

    def wait_until_killed(self, name: str) -> None:
        """Wait until a process of `testkit.programs.crashing` has killed itself."""
        status = self.wait_until_dead(name)
        assert status == -signal.SIGKILL, f"{name} exited with status {status}"

    def is_running(self, name: str) -> bool:
        """Return whether a process was started and has not exited."""
        return name in self._running and self._running[name].poll() is None

    def stop(self) -> None:
        """Kill every process."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def log(self, name: str) -> str:
        """Return the output of a process."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def _launch(self, program: Program, module: str | None, name: str) -> None:
        executable, *arguments = program.command.split()
        if module:
            _replace_module(arguments, module)
        arguments = [filled(argument, self.ports) for argument in arguments]
        variables = INTERPRETERS | environment(self, program, name)
        log = self.directory / f"{name}.log"
        if not self.forks or program.venv != ".venv" or _EXECUTED & variables.keys():
            executable = str(REPOSITORY / program.venv / "bin" / executable)
        self._running[name] = launcher().start([executable, *arguments], variables, log)


def _replace_module(arguments: list[str], module: str) -> None:
    if "-A" in arguments:
        arguments[arguments.index("-A") + 1] = module
    else:
        arguments[-1] = module


def _status(url: str) -> int:
    try:
        return plain_http.get(url, timeout=5).status_code
    except httpx.TransportError:
        return 0
