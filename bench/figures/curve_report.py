"""The cost curves and the comparison of the whole flow, as tables of figures with their spread."""

from collections.abc import Mapping
from typing import Any

from bench.figures.spread import shown
from bench.figures.tables import NONE, how, table
from bench.results import Results

_PARTS = ("total", "application", "observers", "postgresql", "rabbitmq")
_CALIBRATION = ("python_per_s", "commits_per_s", "confirms_per_s")

#: The names of the compared systems in the table.
_NAMES = {"ours": "ours, the same services", "full": "as `make up` runs it", "plain": "plain"}


def full(figures: Results) -> str:
    """Return the curve of the full system, as `make up` starts it."""
    return _curve(figures, "full")


def lean(figures: Results) -> str:
    """Return the curve of the lean system, without observers."""
    return _curve(figures, "lean")


def baseline(figures: Results) -> str:
    """Return the whole flow in comparison with the plain build."""
    if not (compared := figures.get("baseline")):
        return NONE
    systems = [
        (title, name, place, at)
        for name, title in _NAMES.items()
        for place, at in _places(compared[name]).items()
    ]
    measured = table(
        ("system", "orders per second", "ms per order", "p50, ms", "p99, ms", *_heads()),
        (
            (title, place, shown(at["price_ms"]["total"]), *_waits(at), *_calibration(at))
            for title, _, place, at in systems
        ),
    )
    rows = [
        (_NAMES[name], figure, place, shown(ratio, ".3g"))
        for name, ratios in compared["ratios"].items()
        for figure, place, ratio in _ratios(ratios)
    ]
    proportions = table(("system", "figure", "at", "ratio to plain"), rows)
    return f"{proportions}\n\nThe underlying figures ({how(figures, 'baseline')}):\n\n{measured}"


def _curve(figures: Results, part: str) -> str:
    if not (system := figures.get(part)):
        return NONE
    limit, points = system["limit"], _by_rate(system["curve"])
    summary = (
        f"**{shown(limit['orders_per_s'], ',.0f')} orders per second** at the limit"
        f" ({how(figures, part)})."
    )
    if figures["parts"][part].get("repeat", 1) > 1:
        summary += " Each figure is the median of the runs; the range is in parentheses."
    places = {"limit": limit}
    places |= {_called(name, at): at for name, at in points.items()}
    heads = (*(f"{name}, ms" for name in _PARTS), "p50, ms", "p99, ms", "processors busy")
    costs = table(
        ("orders per second", *heads, *_heads()),
        (
            (
                place,
                *(shown(at["price_ms"][name]) for name in _PARTS),
                *_waits(at),
                shown(at["cores"], ".2f") if "cores" in at else "",
                *_calibration(at),
            )
            for place, at in places.items()
        ),
    )
    programs = table(
        ("ms per order", *places),
        (
            (f"`{name}`", *(_median(at["cpu_ms"].get(name)) for at in places.values()))
            for name in limit["cpu_ms"]
        ),
    )
    return f"{summary}\n\n{costs}\n\nCPU time by program and server:\n\n{programs}"


def _by_rate(curve: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(sorted(curve.items(), key=lambda item: float(item[1]["rate"]["median"])))


def _called(name: str, at: Mapping[str, Any]) -> str:
    return f"{at['rate']['median']:g} ({name})" if name.endswith("%") else name


def _places(system: Mapping[str, Any]) -> Mapping[str, Any]:
    limit = system["limit"]
    return {f"limit: {shown(limit['orders_per_s'], ',.0f')}": limit, **system["rates"]}


def _ratios(ratios: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    by_place = [
        (figure, place, ratio)
        for figure in ("cpu", "latency")
        for place, ratio in ratios[figure].items()
    ]
    names = {"cpu": "CPU time per order", "latency": "median latency"}
    rows = [(names[figure], place, ratio) for figure, place, ratio in by_place]
    return [("orders per second", "limit", ratios["orders"]), *rows]


def _waits(at: Mapping[str, Any]) -> tuple[str, str]:
    waits = at.get("latency_ms", {})
    p50, p99 = (shown(waits[name]) if name in waits else "" for name in ("p50", "p99"))
    return p50, p99


def _calibration(at: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{at['calibration'][name]['median']:,.0f}" for name in _CALIBRATION)


def _heads() -> tuple[str, ...]:
    return "Python/s", "commits/s", "confirms/s"


def _median(spread: Mapping[str, float] | None) -> str:
    return f"{spread['median']:.2f}" if spread else ""
