"""A campaign: one seeded run of the real processes with clients, faults and a verdict."""

import time
import traceback
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from testkit.campaign.clients import Clients
from testkit.campaign.evidence import Evidence, gather, repair
from testkit.campaign.faults import FAULTS
from testkit.campaign.history import Action, History, Outcome
from testkit.campaign.invariants import Kind, Violation, check
from testkit.campaign.nemesis import Nemesis
from testkit.campaign.planted_bugs import modules_of
from testkit.campaign.rest import PATIENCE, wait_until_at_rest, wait_until_drained
from testkit.campaign.situations import situations
from testkit.campaign.system import System
from testkit.campaign.verdict import Verdict
from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: Rate of the orders, per second.
_RATE = 10.0

#: Maximum number of orders, as a multiple of the planned number, because faults may take longer.
_MOST = 8

#: The numbers of the orders that are placed before and after all faults.
_FIRST, _LAST = 1_000_000, 2_000_000

#: The minimum and the maximum number of faults in a run.
_FAULTS = (5, 8)

#: Deadlines in seconds, of which one applies to all orders of a run.
_DEADLINES = (15, 900)

#: The units that the warehouse receives. KETTLE is out of stock after some orders.
_STOCK = {"TEA": 100_000, "KETTLE": 20}

#: Seconds between two actions of the nemesis.
_STEP = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parameters of a campaign, which determine it as far as real processes permit."""

    seed: int
    orders: int = 250
    #: The number of faults; by default the seed chooses it.
    faults: int | None = None
    #: The names of the faults to choose from, and of a planted bug.
    names: Sequence[str] = tuple(FAULTS)
    bug: str = ""


@dataclass
class Campaign:
    """A run on a stack whose programs are not started yet."""

    plan: Plan
    stack: Stack
    history: History = field(default_factory=History)

    def __post_init__(self) -> None:
        self._rng = Random(self.plan.seed)
        self._system = System(self.stack)
        self._verdict = Verdict(self.plan.seed)
        #: The evidence for the verdict. None before the end of the run, or if it could not be read.
        self.evidence: Evidence | None = None

    def run(self) -> Verdict:
        """Run the campaign; an error of the run itself is also a violation."""
        nemesis = self._prepare()
        clients = Clients(self.stack, self.history, self.plan.seed, rate=_RATE)
        try:
            with self._timed("start"):
                self._start(clients)
            with self._timed("faults"):
                self._run_with_faults(clients, nemesis)
            with self._timed("rest"):
                is_at_rest = self._settle(clients)
            self.history.write(self.stack.directory / "history.jsonl")
            with self._timed("check"):
                self._conclude(nemesis, is_at_rest=is_at_rest)
        except Exception:
            self._violate(Kind.STUCK, f"the run has failed:\n{traceback.format_exc()}")
        finally:
            nemesis.heal()
            clients.close()
            self._system.close()
            self.history.write(self.stack.directory / "history.jsonl")
        verdict = self._verdict
        verdict.orders = len(self.history.of(Action.PLACE))
        verdict.faults = [str(injection.fault) for injection in nemesis.injected]
        return verdict

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._verdict.seconds[part] = time.monotonic() - began

    def _prepare(self) -> Nemesis:
        plan = self.plan
        self._system.modules |= modules_of(plan.bug)
        self.stack.extra |= {
            "ORDER_DEADLINE": str(self._rng.choice(_DEADLINES)),
            "PLANTED_BUG": plan.bug,
        }
        faults = plan.faults if plan.faults is not None else self._rng.randint(*_FAULTS)
        nemesis = Nemesis.planned(
            self._system, self._rng, names=plan.names, faults=faults, orders=plan.orders
        )
        nemesis.prepare()
        return nemesis

    def _start(self, clients: Clients) -> None:
        self._system.start()
        self.stack.stock(**_STOCK)
        # The ledger considers events older than the first event in an inbox to be from before the
        # subscription.
        self._place_another(clients, _FIRST)
        wait_until_at_rest(self._system)

    def _run_with_faults(self, clients: Clients, nemesis: Nemesis) -> None:
        def placed() -> int:
            return len(self.history.of(Action.PLACE))

        with clients.ordering(_MOST * self.plan.orders):
            deadline, reached = time.monotonic() + PATIENCE, placed()
            while not nemesis.is_done or placed() < self.plan.orders:
                self._system.supervise()
                nemesis.act(placed())
                if placed() != reached:
                    deadline, reached = time.monotonic() + PATIENCE, placed()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no request has ended for {PATIENCE:g} s")
                time.sleep(_STEP)

    def _settle(self, clients: Clients) -> bool:
        """Wait for the state of rest; return whether it was reached."""
        try:
            if self._system.needs_repair:
                self._place_another(clients, _LAST)
                wait_until_drained(self._system)
                repair(self._system)
            self._place_another(clients, _LAST + 1)
            wait_until_at_rest(self._system)
        except AssertionError as error:
            self._violate(Kind.STUCK, f"not at rest after {PATIENCE:g} s without progress: {error}")
            return False
        return True

    def _place_another(self, clients: Clients, first: int) -> None:
        """Place an order while there is no fault, which must succeed.

        An event is proven to be missing in a reader of the stream only once the reader has read a
        later event.
        """
        numbers = iter(range(first, 2 * first, 2))

        def accepted() -> None:
            self._system.supervise()
            assert clients.order(next(numbers)).outcome is Outcome.OK, "no order is accepted"

        eventually(accepted, within=PATIENCE)

    def _conclude(self, nemesis: Nemesis, *, is_at_rest: bool) -> None:
        evidence = gather(
            self._system,
            self.history.requests,
            nemesis.injected,
            _STOCK,
            is_at_rest=is_at_rest,
        )
        self.evidence = evidence
        verdict = self._verdict
        verdict.violations += check(evidence, is_at_rest=is_at_rest)
        verdict.seen = situations(self.stack, self.history, nemesis.injected)
        for name, seconds in _recoveries(evidence):
            verdict.recoveries[name].append(seconds)

    def _violate(self, kind: Kind, text: str) -> None:
        self._verdict.violations.append(Violation("I9", kind, text))


def _recoveries(evidence: Evidence) -> list[tuple[str, float]]:
    """Return each fault with the seconds from its end to the next decision, if there is one."""
    decided = sorted(order.decided_at for order in evidence.orders if order.decided_at)
    found = []
    for injection in evidence.injected:
        position = bisect_right(decided, injection.ended)
        if injection.ended and position < len(decided):
            found.append((injection.fault.name, decided[position] - injection.ended))
    return found


def of_names(text: str) -> tuple[str, ...]:
    """Return the names of faults in a text like `kill,clock`, or all names if it is empty.

    Raises `ValueError` with the first unknown name.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in FAULTS:
            raise ValueError(f"{name!r} is not a fault; the faults are: {', '.join(FAULTS)}")
    return names or tuple(FAULTS)
