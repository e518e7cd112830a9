"""Repeated figures as one: the median, and from where to where they went."""

import statistics
from collections.abc import Sequence
from typing import Any

#: Digits after the point of what is written down.
_DIGITS = 2

Spread = dict[str, float]


def spread(values: Sequence[float], *, digits: int = _DIGITS) -> Spread:
    """Return the median of the repeats, the least and the most of them."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def merged(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the spread of each figure of several repeats, whatever groups the figures are in.

    A figure that not every repeat has, such as a program that was not seen, counts as 0 there.
    """
    names = dict.fromkeys(name for repeat in repeats for name in repeat)
    found: dict[str, Any] = {}
    for name in names:
        values = [repeat.get(name, 0.0) for repeat in repeats]
        if any(isinstance(value, dict) for value in values):
            found[name] = merged([value or {} for value in values])
        else:
            found[name] = spread(values)
    return found


def shown(found: Spread, form: str = ",.1f") -> str:
    """Return a spread for a table: the median, and where the repeats went if they differ."""
    median, least, most = (format(found[name], form) for name in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"
