"""The system of a campaign: programs that are started again when they exit."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

from deploy.local.processes import programs
from deploy.local.processes.health import beats
from deploy.local.processes.programs import Health
from testkit.network.proxy import Proxy
from testkit.processes.stack import Stack

#: The programs of a campaign, in the order of their start: all except the console and monitoring.
PROGRAMS = tuple(
    program.name
    for program in programs.PROGRAMS
    if program.name == "api" or program.health in (Health.HEARTBEAT, Health.RUNS)
)

#: The programs with a connection to the broker.
CONNECTED = tuple(name for name in PROGRAMS if name != "api")

WORKERS = tuple(name for name in PROGRAMS if name.endswith("-worker"))

RELAYS = tuple(name for name in PROGRAMS if name.endswith("-relay"))

#: The servers that a fault may affect, in addition to the programs.
BROKER, DATABASE, MAIL = "broker", "database", "mail server"

EVERYTHING = frozenset({*PROGRAMS, BROKER, DATABASE, MAIL})

#: Seconds between two starts of a program that exits.
_PAUSE = 1.0


@dataclass
class System:
    """The programs of a stack, kept running as by a supervisor, and the effects of faults."""

    stack: Stack
    #: The modules that replace those of programs, by the program's name.
    modules: dict[str, str] = field(default_factory=dict)
    #: The number of starts of each process.
    starts: Counter[str] = field(default_factory=Counter)
    #: Events that were sent again on purpose.
    resent: int = 0
    #: Whether events were lost on purpose, so that only the ledger can restore them.
    needs_repair: bool = False
    #: The program that each process runs, by the process's name.
    _programs: dict[str, str] = field(default_factory=dict)
    #: Processes that a fault keeps down.
    _held: set[str] = field(default_factory=set)
    #: The earliest time of a process's next start (`time.monotonic()`).
    _next_start: dict[str, float] = field(default_factory=dict)
    _proxies: dict[str, Proxy] = field(default_factory=dict)
    _resources: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start all programs, and wait until they are healthy."""
        for name in PROGRAMS:
            self.launch(name, name)
        for name in PROGRAMS:
            self.stack.wait_until_healthy(name)

    def close(self) -> None:
        """Close the proxies. The stack kills the processes."""
        self._resources.close()

    def launch(self, program: str, name: str) -> None:
        """Start a program as a process of this name, without waiting for its health."""
        self._programs[name] = program
        self.starts[name] += 1
        self._next_start[name] = time.monotonic() + _PAUSE
        self.stack.health_file(name).unlink(missing_ok=True)
        self.stack.launch(program, self.modules.get(program), alias=name)

    def kill(self, name: str, *, keep_down: bool = False) -> None:
        """Kill a process and its children. `keep_down` prevents its next start until `release`."""
        if keep_down:
            self._held.add(name)
        if self.stack.is_running(name):
            with suppress(ProcessLookupError):
                self.stack.kill(name)

    def release(self, name: str) -> None:
        """Let a process be started again."""
        self._held.discard(name)

    def remove(self, name: str) -> None:
        """Kill an additional process, and remove it from the system."""
        self.kill(name, keep_down=True)
        self._held.discard(name)
        self._programs.pop(name, None)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process and all its children, if it runs."""
        for pid in self.stack.pids().get(name, ()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def terminate(self, name: str) -> None:
        """Ask a process to shut down, if it runs."""
        if self.stack.is_running(name):
            with suppress(ProcessLookupError):
                self.stack.signal(name, signal.SIGTERM)

    def supervise(self) -> None:
        """Restart each process that has exited and that no fault keeps down."""
        now = time.monotonic()
        for name, program in list(self._programs.items()):
            is_due = name not in self._held and now >= self._next_start[name]
            if is_due and not self.stack.is_running(name):
                self.launch(program, name)

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Supervise the processes during the block, which must not start or stop any."""
        ended = threading.Event()

        def supervise() -> None:
            while not ended.wait(_PAUSE):
                self.supervise()

        supervising = threading.Thread(target=supervise)
        supervising.start()
        try:
            yield
        finally:
            ended.set()
            supervising.join()

    def is_healthy(self, name: str) -> bool:
        """Return whether a process runs, and whether its health file, if any, is fresh."""
        if not self.stack.is_running(name):
            return False
        has_file = name in CONNECTED and name != "beat"
        return not has_file or beats(self.stack.health_file(name))() is None

    def ailing(self) -> list[str]:
        """Return the programs that are not healthy."""
        return [name for name in PROGRAMS if not self.is_healthy(name)]

    def proxied(self, name: str) -> Proxy:
        """Return the proxy between a program, which must not run yet, and the broker."""
        if name not in self._proxies:
            proxy = self._proxies[name] = Proxy(self.stack.vhost.amqp_port)
            self._resources.callback(proxy.stop)
            self.stack.broker_ports[name] = proxy.port
        return self._proxies[name]
