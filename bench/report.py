"""The figures as tables: `python -m bench.report` writes them to docs/performance.md."""

import re
from collections.abc import Callable
from pathlib import Path

from bench import results
from bench.figures import curve_report, page_report
from bench.figures.tables import NONE, how, table
from bench.results import Results
from deploy.local import REPOSITORY
from deploy.local.problem import Problem

DOCUMENT = REPOSITORY / "docs" / "performance.md"

_COMPARED = ("ours", "others")
_UNITS = {"relay": "events", "inventory": "events", "intake": "orders", "orders": "orders"}


def updated(document: str, figures: Results) -> str:
    """Return the document with these figures between `<!-- name -->` and `<!-- /name -->`."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if document.count(begin) != 1 or document.count(end) != 1:
            raise Problem(f"the document needs the markers {begin} and {end} once each")
        text = f"{begin}\n{block(figures)}\n{end}"
        place = re.escape(begin) + ".*" + re.escape(end)
        document = re.sub(place, lambda _, text=text: text, document, flags=re.DOTALL)  # type: ignore[misc]
    return document


def write(figures: Results, path: Path = DOCUMENT) -> None:
    """Write these figures to the document."""
    path.write_text(updated(path.read_text(), figures))


def text(figures: Results) -> str:
    """Return all tables."""
    return "\n\n".join(block(figures) for block in BLOCKS.values())


def machine(figures: Results) -> str:
    """Return the machine and the versions of the software."""
    if not (hardware := figures.get("machine")):
        return NONE
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    return (
        f"{hardware['cpus']} processors ({hardware['processor']}),"
        f" {hardware['memory_gb']} GB of memory, Linux {hardware['kernel']}; {versions}."
    )


def ratios(figures: Results) -> str:
    """Return each part in comparison with its baseline."""
    rows = [
        (
            part,
            *(f"{figures[f'{part}_per_s'][name]:,.0f} {_UNITS[part]}/s" for name in _COMPARED),
            f"**{figures[f'{part}_ratio']:.2f}**",
            how(figures, part),
        )
        for part in ("relay", "inventory", "intake")
        if f"{part}_ratio" in figures
    ]
    return table(("part", "ours", "baseline", "ratio", "measured"), rows)


def orders(figures: Results) -> str:
    """Return the orders per second, and the price of an order."""
    if "orders_per_s" not in figures:
        return NONE
    price = figures["cpu_ms_per_order"]
    rows = [(name, f"{price[name]:.2f}") for name in ("application", "postgresql", "rabbitmq")]
    programs = figures.get("cpu_ms_per_order_by_program", {})
    split = ", ".join(f"{name} {ms:.2f}" for name, ms in programs.items())
    return (
        f"**{figures['orders_per_s']:.0f} orders per second** ({how(figures, 'orders')})."
        f" An order takes {sum(price.values()):.2f} ms of CPU time:\n\n"
        + table(("component", "ms per order"), rows)
        + f"\n\nThe application by program, in ms: {split}."
    )


def latency(figures: Results) -> str:
    """Return the latency at each rate."""
    rows = [
        (rate, *(f"{at[name]:,.1f}" for name in ("p50", "p95", "p99")))
        for rate, at in sorted(figures.get("latency_ms", {}).items(), key=lambda item: int(item[0]))
    ]
    return table(("orders per second", "p50, ms", "p95, ms", "p99, ms"), rows)


def growth(figures: Results) -> str:
    """Return each part with empty and with large tables."""
    if "growth_ratio" not in figures:
        return NONE
    rows = [
        (
            part,
            f"{one['little_per_s']:,.0f} {_UNITS[part]}/s",
            f"{one['much_per_s']:,.0f} {_UNITS[part]}/s",
            f"{one['ratio']:.2f}",
        )
        for part, one in sorted(figures["growth"].items(), key=lambda item: item[1]["ratio"])
    ]
    times = [
        (f"{label} {name}, ms", f"{ms:,.1f}", f"{figures[key]['much'][name]:,.1f}")
        for key, label in (
            ("growth_latency_ms", "latency at 50 orders per second:"),
            ("growth_cpu_ms_per_order", "CPU time per order:"),
        )
        for name, ms in figures[key]["little"].items()
    ]
    return (
        f"A large table has {figures['growth_rows']:,} old rows; the backlog is"
        f" {figures['growth_backlog']:,} events ({how(figures, 'growth')}). The lowest ratio is"
        f" **{figures['growth_ratio']:.2f}**.\n\n"
        + table(("part", "empty tables", "large tables", "ratio"), rows)
        + "\n\n"
        + table(("figure", "empty tables", "large tables"), times)
    )


def profile(figures: Results) -> str:
    """Return the most expensive functions of each program."""
    rows = [
        (f"`{program}`", f"{share:.1f}%", f"`{function}`")
        for program, functions in sorted(figures.get("profile", {}).items())
        for function, share in functions
    ]
    return table(("program", "self time", "function"), rows)


BLOCKS: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "full": curve_report.full,
    "baseline": curve_report.baseline,
    "lean": curve_report.lean,
    "ratios": ratios,
    "orders": orders,
    "latency": latency,
    "growth": growth,
    "pages": page_report.pages,
    "profile": profile,
}


if __name__ == "__main__":
    write(results.read())
