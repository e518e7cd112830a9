"""The parts of `make bench`, each of which returns its figures for bench/results.json."""

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bench.figures import profiling
from bench.parts import baseline, curve, flow, growth, intake, inventory, pages, relay
from bench.system import full, lean, measured
from bench.system.servers import empty, system
from testkit.processes.stack import Stack

#: Events of one measurement of our system and of the baseline: about ten seconds each.
RELAYED = (30_000, 5_000)
HANDLED = (30_000, 3_000)


@dataclass
class Parts:
    """The parts of one run; the first part that needs a system starts it for all."""

    directory: Path
    repeat: int
    seconds: int
    rows: int
    orders_stored: int
    parked: int
    log: Callable[[str], None]
    _contexts: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *reason: Any) -> None:
        # The exception is passed on, so that a failed run keeps its logs.
        self._contexts.__exit__(*reason)

    @cached_property
    def stack(self) -> Stack:
        """The lean system; its programs do not run."""
        return self._contexts.enter_context(system(self.directory))

    @cached_property
    def prepared(self) -> full.Full:
        """The full system, prepared but not running."""
        return self._contexts.enter_context(full.prepared(self.directory / "full"))

    @property
    def measures(self) -> Mapping[str, Callable[[], dict[str, Any]]]:
        """Each part by its name; the full system comes first, before other servers run."""
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
            "pages": self._pages,
        }

    def profile(self) -> dict[str, Any]:
        """Record profiles, and return the table of functions."""
        stack, directory = self.stack, self.directory / "profiles"
        stack.start()
        try:
            flow.throughput(measured.of(stack), 3)
            functions = profiling.profile(stack, self.seconds, directory)
        finally:
            stack.stop()
        self.log(f"profiles, for https://speedscope.app: {directory}")
        return {"profile": functions}

    def _full(self) -> dict[str, Any]:
        with self.prepared.running() as system:
            return {"full": curve.measure(system, self.repeat, self.seconds, self.log)}

    def _lean(self) -> dict[str, Any]:
        empty(self.stack)
        self.stack.start()
        try:
            lean = measured.of(self.stack)
            return {"lean": curve.measure(lean, self.repeat, self.seconds, self.log)}
        finally:
            self.stack.stop()

    def _baseline(self) -> dict[str, Any]:
        return baseline.measure(self.stack, self.prepared, self.repeat, self.seconds, self.log)

    def _compare(
        self,
        part: str,
        ours: Callable[[Stack, int], float],
        others: Callable[[Stack, int], float],
        sizes: tuple[int, int],
    ) -> dict[str, Any]:
        rates: dict[str, list[float]] = {"ours": [], "others": []}
        for number in range(1, self.repeat + 1):
            # The two systems alternate, so that other load on the machine affects both.
            for name, measure, size in (("ours", ours, sizes[0]), ("others", others, sizes[1])):
                rates[name].append(measure(self.stack, size))
                self.log(f"{part} {number}/{self.repeat} {name}: {rates[name][-1]:,.0f}/s")
        medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
        return {
            f"{part}_ratio": round(medians["ours"] / medians["others"], 2),
            f"{part}_per_s": medians,
        }

    def _orders(self) -> dict[str, Any]:
        return lean.measure(self.stack, self.repeat, self.seconds, self.log)

    def _growth(self) -> dict[str, Any]:
        events = {"relay": RELAYED[0], "inventory": HANDLED[0]}
        return growth.measure(self.stack, self.rows, self.repeat, self.seconds, events, self.log)

    def _pages(self) -> dict[str, Any]:
        sizes = (self.orders_stored, self.parked)
        return pages.measure(self.prepared, *sizes, self.repeat, self.seconds, self.log)
