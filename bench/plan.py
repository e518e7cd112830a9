"""What `make bench` measures, part by part: each returns its figures for bench/results.json."""

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bench.figures import profiling
from bench.parts import baseline, curve, flow, growth, intake, inventory, relay
from bench.system import full, lean, measured
from bench.system.servers import empty, system
from testkit.processes.stack import Stack

#: Events of one measurement, ours and the other's: about ten seconds of either.
RELAYED = (30_000, 5_000)
HANDLED = (30_000, 3_000)


@dataclass
class Parts:
    """The parts of one run; what several of them need is started once, by the first."""

    directory: Path
    repeat: int
    seconds: int
    rows: int
    tell: Callable[[str], None]
    _contexts: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *reason: Any) -> None:
        # With its reason: what failed keeps its logs.
        self._contexts.__exit__(*reason)

    @cached_property
    def stack(self) -> Stack:
        """The lean system, none of whose programs runs."""
        return self._contexts.enter_context(system(self.directory))

    @cached_property
    def prepared(self) -> full.Full:
        """The full system, which does not run."""
        return self._contexts.enter_context(full.prepared(self.directory / "full"))

    @property
    def measures(self) -> Mapping[str, Callable[[], dict[str, Any]]]:
        """Each part by its name; the full system first, before the other's servers run."""
        return {
            "full": self._full,
            "lean": self._lean,
            "baseline": self._baseline,
            "relay": partial(self._compare, "relay", relay.ours, relay.others, RELAYED),
            "inventory": partial(
                self._compare, "inventory", inventory.ours, inventory.others, HANDLED
            ),
            "intake": partial(
                self._compare, "intake", intake.ours, intake.others, (self.seconds, self.seconds)
            ),
            "orders": self._orders,
            "growth": self._growth,
        }

    def profile(self) -> dict[str, Any]:
        """Record where the time goes."""
        stack, directory = self.stack, self.directory / "profiles"
        stack.start()
        try:
            flow.throughput(measured.of(stack), 3)
            found = profiling.profile(stack, self.seconds, directory)
        finally:
            stack.stop()
        self.tell(f"profiles, for https://speedscope.app: {directory}")
        return {"profile": found}

    def _full(self) -> dict[str, Any]:
        with self.prepared.running() as system:
            return {"full": curve.measure(system, self.repeat, self.seconds, self.tell)}

    def _lean(self) -> dict[str, Any]:
        empty(self.stack)
        self.stack.start()
        try:
            lean = measured.of(self.stack)
            return {"lean": curve.measure(lean, self.repeat, self.seconds, self.tell)}
        finally:
            self.stack.stop()

    def _baseline(self) -> dict[str, Any]:
        return baseline.measure(self.stack, self.prepared, self.repeat, self.seconds, self.tell)

    def _compare(
        self,
        part: str,
        ours: Callable[[Stack, int], float],
        others: Callable[[Stack, int], float],
        sizes: tuple[int, int],
    ) -> dict[str, Any]:
        rates: dict[str, list[float]] = {"ours": [], "others": []}
        for number in range(1, self.repeat + 1):
            # In turns, so that other load on the machine affects both.
            for name, measure, size in (("ours", ours, sizes[0]), ("others", others, sizes[1])):
                rates[name].append(measure(self.stack, size))
                self.tell(f"{part} {number}/{self.repeat} {name}: {rates[name][-1]:,.0f}/s")
        medians = {name: round(statistics.median(found), 1) for name, found in rates.items()}
        return {
            f"{part}_ratio": round(medians["ours"] / medians["others"], 2),
            f"{part}_per_s": medians,
        }

    def _orders(self) -> dict[str, Any]:
        return lean.measure(self.stack, self.repeat, self.seconds, self.tell)

    def _growth(self) -> dict[str, Any]:
        events = {"relay": RELAYED[0], "inventory": HANDLED[0]}
        return growth.measure(self.stack, self.rows, self.repeat, self.seconds, events, self.tell)
