"""The figures as tables: `python -m bench.report` puts them into docs/performance.md."""

import re
from collections.abc import Callable
from pathlib import Path

from bench import results
from bench.figures import curve_report
from bench.figures.tables import NONE, how, table
from bench.results import Results
from deploy.local import REPOSITORY
from deploy.local.problem import Problem

DOCUMENT = REPOSITORY / "docs" / "performance.md"

_UNITS = {"relay": "events", "inventory": "events", "intake": "orders", "orders": "orders"}


def updated(document: str, found: Results) -> str:
    """Return the document with these figures between its markers, `<!-- name -->` and its end."""
    for name, block in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if document.count(begin) != 1 or document.count(end) != 1:
            raise Problem(f"the document needs the markers {begin} and {end} once each")
        text = f"{begin}\n{block(found)}\n{end}"
        place = re.escape(begin) + ".*" + re.escape(end)
        document = re.sub(place, lambda _, text=text: text, document, flags=re.DOTALL)  # type: ignore[misc]
    return document


def write(found: Results, path: Path = DOCUMENT) -> None:
    """Put these figures into the document."""
    path.write_text(updated(path.read_text(), found))


def text(found: Results) -> str:
    """Return all tables."""
    return "\n\n".join(block(found) for block in BLOCKS.values())


def machine(found: Results) -> str:
    """Return what was measured on, and with what."""
    if not (what := found.get("machine")):
        return NONE
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{what['cpus']} processors ({what['processor']}), {what['memory_gb']} GB of memory,"
        f" Linux {what['kernel']}; {versions}."
    )


def ratios(found: Results) -> str:
    """Return each part against the usual way."""
    rows = [
        (
            part,
            *(f"{found[f'{part}_per_s'][who]:,.0f} {_UNITS[part]}/s" for who in ("ours", "others")),
            f"**{found[f'{part}_ratio']:.2f}**",
            how(found, part),
        )
        for part in ("relay", "inventory", "intake")
        if f"{part}_ratio" in found
    ]
    return table(("part", "ours", "the usual way", "ratio", "measured"), rows)


def orders(found: Results) -> str:
    """Return the orders a second, and their price."""
    if "orders_per_s" not in found:
        return NONE
    price = found["cpu_ms_per_order"]
    rows = [(name, f"{price[name]:.2f}") for name in ("application", "postgresql", "rabbitmq")]
    programs = found.get("cpu_ms_per_order_by_program", {})
    split = ", ".join(f"{name} {ms:.2f}" for name, ms in programs.items())
    return (
        f"**{found['orders_per_s']:.0f} orders a second** ({how(found, 'orders')}). An order takes"
        f" {sum(price.values()):.2f} ms of processor time:\n\n"
        + table(("of", "ms an order"), rows)
        + f"\n\nOf the application, in ms: {split}."
    )


def latency(found: Results) -> str:
    """Return the latency at each rate."""
    rows = [
        (rate, *(f"{at[name]:,.1f}" for name in ("p50", "p95", "p99")))
        for rate, at in sorted(found.get("latency_ms", {}).items(), key=lambda item: int(item[0]))
    ]
    return table(("orders a second", "p50, ms", "p95, ms", "p99, ms"), rows)


def growth(found: Results) -> str:
    """Return each part with little data and with much."""
    if "growth_ratio" not in found:
        return NONE
    rows = [
        (
            part,
            f"{one['little_per_s']:,.0f} {_UNITS[part]}/s",
            f"{one['much_per_s']:,.0f} {_UNITS[part]}/s",
            f"{one['ratio']:.2f}",
        )
        for part, one in sorted(found["growth"].items(), key=lambda item: item[1]["ratio"])
    ]
    waits, prices = (
        {
            state: ", ".join(f"{name} {ms:,.1f}" for name, ms in figures.items())
            for state, figures in found[key].items()
        }
        for key in ("growth_latency_ms", "growth_cpu_ms_per_order")
    )
    return (
        f"Much is {found['growth_rows']:,} old rows in each table and a backlog of"
        f" {found['growth_backlog']:,} ({how(found, 'growth')}).\n\n"
        + table(("part", "little", "much", "ratio"), rows)
        + f"\n\nThe least of them: **{found['growth_ratio']:.2f}**. Latency at 50 orders a second,"
        f" in ms: {waits['little']} with little; {waits['much']} with much. The price of an order,"
        f" in ms: {prices['little']} with little; {prices['much']} with much."
    )


def profile(found: Results) -> str:
    """Return where each program's time goes."""
    rows = [
        (f"`{program}`", f"{share:.1f} %", f"`{function}`")
        for program, functions in sorted(found.get("profile", {}).items())
        for function, share in functions
    ]
    return table(("program", "own time", "function"), rows)


BLOCKS: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "full": curve_report.full,
    "baseline": curve_report.baseline,
    "lean": curve_report.lean,
    "ratios": ratios,
    "orders": orders,
    "latency": latency,
    "growth": growth,
    "profile": profile,
}


if __name__ == "__main__":
    write(results.read())
