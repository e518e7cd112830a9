"""Processes that are killed, terminated, suspended, disconnected, restarted or doubled."""

import os
import signal
import time
from contextlib import suppress

import httpx

from testkit.campaign.fault import Fault, ProgramFault
from testkit.campaign.system import CONNECTED, EVERYTHING, PROGRAMS, RELAYS, WORKERS

#: Number of programs of a rolling restart, and seconds for one of them.
_RESTARTED, _EACH = 4, 4.0


class Kill(ProgramFault):
    """A process and its children are killed."""

    name = "kill"
    candidates = PROGRAMS

    def inject(self) -> None:
        self.system.kill(self.detail, keep_down=True)

    def heal(self) -> None:
        self.system.release(self.detail)


class Terminate(ProgramFault):
    """A process is asked to shut down, as by its supervisor."""

    name = "terminate"
    candidates = PROGRAMS

    def inject(self) -> None:
        self.system.terminate(self.detail)


class Suspend(ProgramFault):
    """A process and its children are suspended, as with their machine."""

    name = "suspend"
    hold = (3.0, 6.0)
    candidates = PROGRAMS

    def inject(self) -> None:
        self.system.signal(self.detail, signal.SIGSTOP)

    def heal(self) -> None:
        self.system.signal(self.detail, signal.SIGCONT)


class _ChildFault(ProgramFault):
    candidates = WORKERS

    def choose(self) -> None:
        super().choose()
        self._number = self.rng.randrange(2)

    def signal_child(self, number: signal.Signals) -> None:
        """Send a signal to one child of the worker, if it runs."""
        if self.stack.is_running(self.detail):
            children = self.stack.children(self.detail)
            with suppress(IndexError, ProcessLookupError):
                os.kill(children[self._number], number)


class KillChild(_ChildFault):
    """A child of a worker is killed."""

    name = "kill-child"

    def inject(self) -> None:
        self.signal_child(signal.SIGKILL)


class SuspendChild(_ChildFault):
    """A child of a worker is suspended."""

    name = "suspend-child"
    hold = (3.0, 6.0)

    def inject(self) -> None:
        self.signal_child(signal.SIGSTOP)

    def heal(self) -> None:
        self.system.signal(self.detail, signal.SIGCONT)


class Hang(ProgramFault):
    """All children of a worker hang until the worker is killed."""

    name = "hang"
    candidates = WORKERS

    def inject(self) -> None:
        if self.stack.is_running(self.detail):
            for pid in self.stack.children(self.detail):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)

    def heal(self) -> None:
        self.system.kill(self.detail)


class Connections(ProgramFault):
    """The broker closes the connections of a process repeatedly from its start."""

    name = "connections"
    hold = (6.0, 9.0)
    candidates = CONNECTED

    def inject(self) -> None:
        self.system.kill(self.detail)

    def advance(self) -> None:
        with suppress(httpx.HTTPError):
            self.stack.close_connections(self.detail)


class RollingRestart(Fault):
    """Some programs are shut down and started again, one after the other."""

    name = "rolling-restart"
    hold = (_RESTARTED * _EACH, _RESTARTED * _EACH)

    def choose(self) -> None:
        self.targets = EVERYTHING
        self._next = self.rng.sample(PROGRAMS, _RESTARTED)
        self._due = 0.0

    def inject(self) -> None:
        self.advance()

    def advance(self) -> None:
        if self._next and time.monotonic() >= self._due and not self.system.ailing():
            self.system.terminate(self._next.pop())
            self._due = time.monotonic() + 1.0


class TwoRelays(ProgramFault):
    """A second relay of an outbox runs, and the first relay is killed."""

    name = "two-relays"
    hold = (4.0, 8.0)
    candidates = RELAYS

    def inject(self) -> None:
        self.system.launch(self.detail, f"second-{self.detail}")
        self.system.kill(self.detail, keep_down=True)

    def heal(self) -> None:
        self.system.release(self.detail)
        self.system.remove(f"second-{self.detail}")


class TwoBeats(Fault):
    """A second beat runs, and the first beat is killed while both run."""

    name = "two-beats"
    hold = (4.0, 8.0)

    def choose(self) -> None:
        self.targets = frozenset({"beat"})

    def inject(self) -> None:
        self.system.launch("beat", "second-beat")

    def heal(self) -> None:
        self.system.kill("beat")
        self.system.remove("second-beat")
