"""A fault: it is injected into a running system once, and ends after some seconds."""

from contextlib import AbstractContextManager, ExitStack
from random import Random
from typing import ClassVar

from testkit.campaign.system import System


class Fault:
    """One injection of a fault, whose details are chosen at its creation by a seeded generator."""

    #: The name of the kind, as in `FAULTS=`.
    name: ClassVar[str]
    #: The minimum and the maximum seconds between `inject` and `heal`.
    hold: ClassVar[tuple[float, float]] = (1.0, 6.0)
    #: The programs and servers that it affects. No other fault affects them at the same time.
    targets: frozenset[str]
    #: The detail that distinguishes it from other faults of its kind.
    detail: str = ""

    def __init__(self, system: System, rng: Random) -> None:
        self.system = system
        self.stack = system.stack
        self.rng = rng
        self.seconds = rng.uniform(*self.hold)
        self.choose()

    def __str__(self) -> str:
        return f"{self.name} {self.detail}".rstrip()

    def choose(self) -> None:
        """Set `targets` and `detail`."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Prepare a system that is not started yet."""

    def inject(self) -> None:
        """Start the fault."""
        raise NotImplementedError

    def advance(self) -> None:
        """Continue the fault. Called several times a second until the fault is healed."""

    def heal(self) -> None:
        """End the fault. Its consequences remain."""


class ProgramFault(Fault):
    """A fault of one program."""

    #: The programs that it may affect.
    candidates: ClassVar[tuple[str, ...]]

    def choose(self) -> None:
        self.detail = self.rng.choice(self.candidates)
        self.targets = frozenset({self.detail})


class ServerFault(Fault):
    """A fault of one server that lasts as long as a context."""

    server: ClassVar[str]

    def choose(self) -> None:
        self.targets = frozenset({self.server})
        self._contexts = ExitStack()

    def outage(self) -> AbstractContextManager[object]:
        """Return the context in which the fault lasts."""
        raise NotImplementedError

    def inject(self) -> None:
        self._contexts.enter_context(self.outage())

    def heal(self) -> None:
        self._contexts.close()
