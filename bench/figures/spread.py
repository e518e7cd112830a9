"""Repeated figures: their median and range."""

import statistics
from collections.abc import Sequence
from typing import Any

#: Decimal places of recorded figures.
_DIGITS = 2

Spread = dict[str, float]


def spread(values: Sequence[float], *, digits: int = _DIGITS) -> Spread:
    """Return the median, the minimum and the maximum of the repetitions."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def merged(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of each figure over several repetitions, in the same nested groups.

    A figure that is missing in a repetition, such as that of an idle program, counts as 0 there.
    """
    names = dict.fromkeys(name for repeat in repeats for name in repeat)
    spreads: dict[str, Any] = {}
    for name in names:
        values = [repeat.get(name, 0.0) for repeat in repeats]
        if any(isinstance(value, dict) for value in values):
            spreads[name] = merged([value or {} for value in values])
        else:
            spreads[name] = spread(values)
    return spreads


def shown(values: Spread, form: str = ",.1f") -> str:
    """Return a spread for a table: the median, and the range if the repetitions differ."""
    median, least, most = (format(values[name], form) for name in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"
