"""The verdict on a campaign, and the totals of several campaigns."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from testkit.campaign.invariants import Kind, Violation
from testkit.campaign.situations import SITUATIONS


@dataclass
class Verdict:
    """The result of one seed. Without violations, every invariant holds."""

    seed: int
    orders: int = 0
    #: The faults in the order of their injection.
    faults: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    #: The duration of each part of the campaign.
    seconds: dict[str, float] = field(default_factory=dict)
    #: The seconds from the end of each fault to the next decision about an order, by the kind of
    #: fault.
    recoveries: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def line(self) -> str:
        """Return the verdict in one line."""
        seen = ", ".join(f"{name} {count}" for name, count in self.seen.items())
        state = "ok" if not self.violations else "FAILED"
        faults = f"faults {len(self.faults)}: {', '.join(self.faults)}"
        seconds = ", ".join(f"{part} {seconds:.0f}" for part, seconds in self.seconds.items())
        return (
            f"seed {self.seed} {state} orders {self.orders:,} {faults}; seen: {seen};"
            f" seconds: {seconds}"
        )


def totals(verdicts: Sequence[Verdict]) -> str:
    """Return the totals of some campaigns in one line."""
    orders = sum(each.orders for each in verdicts)
    faults = sum(len(each.faults) for each in verdicts)
    kinds = Counter(violation.kind for each in verdicts for violation in each.violations)
    counts = [f"{kind} {kinds[kind]:,}" for kind in (Kind.LOST, Kind.DOUBLED, Kind.STUCK)]
    if kinds[Kind.WRONG]:
        counts.append(f"{Kind.WRONG} {kinds[Kind.WRONG]:,}")
    return " ".join((f"runs {len(verdicts):,} orders {orders:,} faults {faults:,}", *counts))


def never_reached(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the situations that no campaign has reached."""
    seen = sum((each.seen for each in verdicts), Counter[str]())
    return [situation for situation in SITUATIONS if not seen[situation]]


def recovery_table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the lines of a table of the recovery times of each kind of fault."""
    recoveries = defaultdict[str, list[float]](list)
    for verdict in verdicts:
        for name, seconds in verdict.recoveries.items():
            recoveries[name] += seconds
    yield f"{'fault':<18}{'times':>6}{'p50 s':>8}{'p99 s':>8}"
    for name, seconds in sorted(recoveries.items()):
        ranked = sorted(seconds)
        yield f"{name:<18}{len(ranked):>6}{_rank(ranked, 0.5):>8.2f}{_rank(ranked, 0.99):>8.2f}"


def _rank(ranked: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return ranked[math.ceil(share * len(ranked)) - 1]
