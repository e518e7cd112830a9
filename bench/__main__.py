"""What the system does in a second, against the usual way to do the same: `make bench`."""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown

from bench import (
    cpu,
    flow,
    growth,
    handling,
    intake,
    plot,
    profiling,
    relaying,
    report,
    results,
    seeding,
    sizing,
    storage,
)
from bench.system import empty, execute, system
from deploy.local import REPOSITORY
from tests.support.stack import Stack

STATE = REPOSITORY / ".run-bench"
PARTS = ("relay", "inventory", "intake", "orders", "growth")

#: Events of one measurement, ours and the other's: about ten seconds of either.
RELAYED = (30_000, 5_000)
HANDLED = (30_000, 3_000)

#: Orders a second at which the latency is measured: these, and then on until the system is behind.
RATES = (20, 50, 100, 150, 200)
FURTHER_RATES = (250, 300, 350, 400, 450, 500, 600, 700, 800, 1000)

#: Milliseconds. A median beyond it is a queue that grows: more orders come than are decided.
BEHIND = 1000.0

#: A load before anything was started beyond which the figures are not the system's alone.
BUSY = 0.5

console = Console()


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="These parts only.")
@click.option("--profile", is_flag=True, help="Record where the time goes, and nothing else.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=15, show_default=True, type=click.IntRange(3))
@click.option(
    "--rows",
    default=10_000_000,
    show_default=True,
    type=click.IntRange(10_000),
    help="Old rows in each table, for the part growth.",
)
def main(only: tuple[str, ...], profile: bool, repeat: int, seconds: int, rows: int) -> None:
    """Measure each part several times; write medians to bench/results.json and the documents.

    Parts that are not measured keep the figures that they have.
    """
    chosen = ("profile",) if profile else only or PARTS
    how = {"repeat": repeat, "seconds": seconds}
    if (load := os.getloadavg()[0]) > BUSY:
        _tell(f"the machine is busy (load {load:.1f}): what else runs is in every figure")
    with system(STATE) as stack:
        if "growth" in chosen:
            # Before the others take their half hour.
            seeding.require_space(stack, rows)
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "relay": lambda: _compare(
                "relay", stack, repeat, relaying.ours, relaying.others, RELAYED
            ),
            "inventory": lambda: _compare(
                "inventory", stack, repeat, handling.ours, handling.others, HANDLED
            ),
            "intake": lambda: _compare(
                "intake", stack, repeat, intake.ours, intake.others, (seconds, seconds)
            ),
            "orders": lambda: _orders(stack, repeat, seconds),
            "growth": lambda: _growth(stack, repeat, seconds, rows),
            "profile": lambda: _profile(stack, seconds),
        }
        for part, measure in measures.items():
            if part in chosen:
                results.record(part, measure(), {"seconds": seconds} if profile else how)
    found = results.read()
    report.write(found)
    sizing.write(found)
    if "orders" in chosen:
        plot.draw(found["latency_ms"])
    console.print(Markdown(report.text(found)))


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
            _tell(f"{part} {number}/{repeat} {name}: {rates[name][-1]:,.0f}/s")
    medians = {name: round(statistics.median(found), 1) for name, found in rates.items()}
    return {
        f"{part}_ratio": round(medians["ours"] / medians["others"], 2),
        f"{part}_per_s": medians,
    }


def _orders(stack: Stack, repeat: int, seconds: int) -> dict[str, Any]:
    empty(stack)
    before = storage.used(stack)
    stack.start()
    try:
        flow.throughput(stack, 3)
        runs = []
        for number in range(1, repeat + 1):
            runs.append(run := flow.throughput(stack, seconds))
            split = ", ".join(f"{name} {ms:.2f}" for name, ms in cpu.split(run.cpu_ms).items())
            _tell(f"orders {number}/{repeat}: {run.orders_per_s:.0f}/s, ms each: {split}")
        ((orders,),) = execute(stack, "order", "SELECT count(*) FROM orders")
        stored = storage.of_an_order(before, storage.used(stack), orders)
        latencies = _latencies(stack, repeat, seconds)
    finally:
        stack.stop()
    price = flow.medians([run.cpu_ms for run in runs], digits=2)
    return {
        "orders_per_s": round(statistics.median(run.orders_per_s for run in runs), 1),
        "cpu_ms_per_order": {name: round(ms, 2) for name, ms in cpu.split(price).items()},
        "cpu_ms_per_order_by_program": cpu.of_programs(price),
        "bytes_per_order": stored,
        "latency_ms": latencies,
    }


def _latencies(stack: Stack, repeat: int, seconds: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for rate in (*RATES, *FURTHER_RATES):
        at = flow.medians([flow.latency(stack, rate, seconds) for _ in range(repeat)])
        found[str(rate)] = at
        _tell(f"latency at {rate}/s: " + ", ".join(f"{name} {ms}" for name, ms in at.items()))
        if rate >= RATES[-1] and at["p50"] > BEHIND:
            break
    return found


def _growth(stack: Stack, repeat: int, seconds: int, rows: int) -> dict[str, Any]:
    events = {"relay": RELAYED[0], "inventory": HANDLED[0]}
    return growth.measure(stack, rows, repeat, seconds, events, _tell)


def _profile(stack: Stack, seconds: int) -> dict[str, Any]:
    stack.start()
    try:
        flow.throughput(stack, 3)
        found = profiling.profile(stack, seconds, STATE / "profiles")
    finally:
        stack.stop()
    _tell(f"profiles, for https://speedscope.app: {STATE / 'profiles'}")
    return {"profile": found}


def _tell(what: str) -> None:
    console.print(f"{time.strftime('%H:%M:%S')} {what}", highlight=False)


if __name__ == "__main__":
    main()
