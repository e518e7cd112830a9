"""The nemesis, which plans faults from a seed, and injects each after a number of orders."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

from testkit.campaign.fault import Fault
from testkit.campaign.faults import FAULTS
from testkit.campaign.system import System

#: The shares of the orders after which the first and the last fault start.
_FIRST, _LAST = 0.05, 0.85


@dataclass(kw_only=True)
class Injection:
    """A fault of the plan; times are seconds since the epoch."""

    fault: Fault
    #: The number of orders after which it is due.
    due_after: int
    began: float = 0.0
    ended: float = 0.0
    #: The time (`time.monotonic()`) from which the fault is healed.
    _until: float = 0.0

    def inject(self) -> None:
        """Start the fault."""
        self.began = time.time()
        self.fault.inject()
        self._until = time.monotonic() + self.fault.seconds

    def heal(self) -> None:
        """End the fault."""
        self.fault.heal()
        self.ended = time.time()

    @property
    def is_over(self) -> bool:
        """Whether the fault has lasted long enough."""
        return time.monotonic() >= self._until


@dataclass
class Nemesis:
    """The faults of a campaign. Faults that affect different targets may overlap."""

    system: System
    #: The planned faults, in the order in which they are due.
    plan: Sequence[Injection]
    #: The injected faults, in the order of their injection.
    injected: list[Injection] = field(default_factory=list)
    _waiting: list[Injection] = field(default_factory=list)
    _active: list[Injection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting = list(self.plan)

    @classmethod
    def planned(
        cls, system: System, rng: Random, *, names: Sequence[str], faults: int, orders: int
    ) -> "Nemesis":
        """Choose `faults` faults of these names, due while `orders` orders are placed."""
        shares = sorted(rng.uniform(_FIRST, _LAST) for _ in range(faults))
        plan = [
            Injection(fault=FAULTS[rng.choice(names)](system, rng), due_after=int(share * orders))
            for share in shares
        ]
        return cls(system, plan)

    def prepare(self) -> None:
        """Prepare the system, which is not started yet, for all faults of the plan."""
        for injection in self.plan:
            injection.fault.prepare()

    @property
    def is_done(self) -> bool:
        """Whether every fault was injected and healed."""
        return not (self._waiting or self._active)

    def act(self, orders: int) -> None:
        """Heal and inject the faults due after this number of orders. Call this repeatedly."""
        for injection in list(self._active):
            injection.fault.advance()
            if injection.is_over:
                self._heal(injection)
        # Faults are injected in the order of the plan, so that the seed also determines which fault
        # waits.
        if self._waiting and orders >= (first := self._waiting[0]).due_after:
            busy = {target for each in self._active for target in each.fault.targets}
            if not busy & first.fault.targets:
                self._waiting.pop(0)
                self._active.append(first)
                self.injected.append(first)
                first.inject()

    def heal(self) -> None:
        """End every fault immediately, and inject no more, because the run has failed."""
        self._waiting.clear()
        for injection in list(self._active):
            # This fault may have caused the failure.
            with suppress(Exception):
                self._heal(injection)

    def _heal(self, injection: Injection) -> None:
        self._active.remove(injection)
        injection.heal()
