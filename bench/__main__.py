"""What the system does in a second, against the usual way to do the same: `make bench`."""

import json
import os
import platform
import statistics
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench import flow, handling, intake, relaying
from bench.system import system
from deploy.local import REPOSITORY
from tests.support.stack import Stack

RESULTS = Path(__file__).with_name("results.json")
PARTS = ("relay", "inventory", "intake", "orders")

#: Events of one measurement, ours and the other's: about ten seconds of either.
RELAYED = (30_000, 5_000)
HANDLED = (30_000, 5_000)

#: Orders a second at which the latency is measured.
RATES = (20, 50, 200)

console = Console()


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="These parts only.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=15, show_default=True, type=click.IntRange(3))
def main(only: tuple[str, ...], repeat: int, seconds: int) -> None:
    """Measure each part several times, show medians, and write bench/results.json."""
    chosen = only or PARTS
    results: dict[str, Any] = {"machine": _machine(), "date": datetime.now(UTC).isoformat()}
    with system(REPOSITORY / ".run-bench") as stack:
        if "relay" in chosen:
            results |= _compare("relay", stack, repeat, relaying.ours, relaying.others, RELAYED)
        if "inventory" in chosen:
            results |= _compare("inventory", stack, repeat, handling.ours, handling.others, HANDLED)
        if "intake" in chosen:
            both = (seconds, seconds)
            results |= _compare("intake", stack, repeat, intake.ours, intake.others, both)
        if "orders" in chosen:
            results |= _orders(stack, repeat, seconds)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    console.print(_table(results))


def _compare(
    part: str,
    stack: Stack,
    repeat: int,
    ours: Callable[[Stack, int], float],
    others: Callable[[Stack, int], float],
    sizes: tuple[int, int],
) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"ours": [], "others": []}
    for number in range(1, repeat + 1):
        # In turns, so that whatever else this machine does hits both.
        for name, measure, size in (("ours", ours, sizes[0]), ("others", others, sizes[1])):
            rates[name].append(measure(stack, size))
            console.print(f"{part} {number}/{repeat} {name}: {rates[name][-1]:,.0f}/s")
    medians = {name: statistics.median(found) for name, found in rates.items()}
    return {
        f"{part}_ratio": round(medians["ours"] / medians["others"], 2),
        f"{part}_per_s": medians,
    }


def _orders(stack: Stack, repeat: int, seconds: int) -> dict[str, Any]:
    stack.start()
    flow.throughput(stack, 3)
    runs = []
    for number in range(1, repeat + 1):
        runs.append(flow.throughput(stack, seconds))
        run = runs[-1]
        price = ", ".join(f"{name} {ms:.1f}" for name, ms in run.cpu_ms.items())
        console.print(f"orders {number}/{repeat}: {run.orders_per_s:.0f}/s, ms each: {price}")
    latencies: dict[str, dict[str, float]] = {}
    for rate in RATES:
        found = [flow.latency(stack, rate, seconds) for _ in range(repeat)]
        latencies[str(rate)] = {
            name: round(statistics.median(one[name] for one in found), 1) for name in found[0]
        }
        console.print(f"latency at {rate}/s: {latencies[str(rate)]}")
    return {
        "orders_per_s": round(statistics.median(run.orders_per_s for run in runs), 1),
        "cpu_ms_per_order": {
            name: round(statistics.median(run.cpu_ms[name] for run in runs), 2)
            for name in runs[0].cpu_ms
        },
        "latency_ms": latencies,
    }


def _machine() -> dict[str, Any]:
    packages = ("celery", "kombu", "SQLAlchemy", "psycopg2-binary", "gunicorn")
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _table(results: dict[str, Any]) -> Table:
    table = Table("what", "ours", "the usual way", "ratio")
    for part in PARTS[:-1]:
        if rates := results.get(f"{part}_per_s"):
            ours, others = (f"{rates[name]:,.0f}/s" for name in ("ours", "others"))
            table.add_row(part, ours, others, f"{results[f'{part}_ratio']:.1f}")
    for name in ("orders_per_s", "cpu_ms_per_order", "latency_ms"):
        if name in results:
            table.add_row(name, str(results[name]), "", "")
    return table


if __name__ == "__main__":
    main()
