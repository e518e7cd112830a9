"""Ratios of two systems, turn by turn, which hold on any machine."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.figures.spread import Spread, spread


def ratios(
    ours: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the ratios of our figures to the others, by turn: orders, price, median latency."""
    pairs = list(zip(comparable(ours), comparable(others), strict=True))
    shared = [rate for rate in pairs[0][0]["rates"] if rate in pairs[0][1]["rates"]]

    def of_turns(figure: Callable[[dict[str, Any]], float]) -> Spread:
        return spread([figure(one) / figure(other) for one, other in pairs], digits=3)

    def price(place: str) -> Callable[[dict[str, Any]], float]:
        return lambda one: float(
            (one["limit"] if place == "limit" else one["rates"][place])["price_ms"]["total"]
        )

    def wait(rate: str) -> Callable[[dict[str, Any]], float]:
        return lambda one: float(one["rates"][rate]["latency_ms"]["p50"])

    return {
        "orders": of_turns(lambda one: one["limit"]["orders_per_s"]),
        "cpu": {place: of_turns(price(place)) for place in ("limit", *shared)},
        "latency": {rate: of_turns(wait(rate)) for rate in shared},
    }


def comparable(repeats: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the repetitions with the rates that all of them have."""
    rates = [rate for rate in repeats[0]["rates"] if all(rate in one["rates"] for one in repeats)]
    return [one | {"rates": {rate: one["rates"][rate] for rate in rates}} for one in repeats]
