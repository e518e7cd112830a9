"""The benchmarks of the system, alone and in comparison with a baseline: `make bench`."""

import os
import time

import click
from rich.console import Console
from rich.markdown import Markdown

from bench import report, results, scale_out, sizing
from bench.console import stored_orders
from bench.figures import plot
from bench.load import seeding
from bench.plan import Parts
from deploy.local import REPOSITORY

STATE = REPOSITORY / ".run-bench"
PARTS = ("full", "lean", "baseline", "relay", "inventory", "intake", "orders", "growth", "pages")

#: The load of the machine before a run above which the figures are distorted.
BUSY = 0.5

console = Console()


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure only these parts.")
@click.option("--profile", is_flag=True, help="Record profiles only.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds",
    default=60,
    show_default=True,
    type=click.IntRange(3),
    help="Duration of each run of orders; less than 60 is a trial.",
)
@click.option(
    "--rows",
    default=10_000_000,
    show_default=True,
    type=click.IntRange(10_000),
    help="Old rows in each table in the part growth.",
)
@click.option(
    "--orders-stored",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(5_000),
    help="Stored orders in the part pages.",
)
@click.option(
    "--parked",
    default=100_000,
    show_default=True,
    type=click.IntRange(1_000),
    help="Parked messages in the part pages.",
)
def main(
    only: tuple[str, ...],
    profile: bool,
    repeat: int,
    seconds: int,
    rows: int,
    orders_stored: int,
    parked: int,
) -> None:
    """Measure each part several times, and write medians to bench/results.json and the documents.

    Parts that are not measured keep their figures.
    """
    chosen = only or PARTS
    if (load := os.getloadavg()[0]) > BUSY:
        _log(f"the machine is busy (load {load:.1f}): other load affects every figure")
    with Parts(STATE, repeat, seconds, rows, orders_stored, parked, _log) as parts:
        if profile:
            results.record("profile", parts.profile(), {"seconds": seconds})
            chosen = ()
        if "growth" in chosen:
            # The disk space is checked before the other parts start, because they take hours.
            seeding.require_space(REPOSITORY, rows)
        if "pages" in chosen:
            seeding.require_space(REPOSITORY, orders_stored, stored_orders.ROW_SIZE)
        for part, measure in parts.measures.items():
            if part in chosen:
                results.record(part, measure(), {"repeat": repeat, "seconds": seconds})
    figures = results.read()
    report.write(figures)
    sizing.write(figures)
    scale_out.write(figures)
    if "orders" in chosen:
        plot.draw(figures["latency_ms"])
    console.print(Markdown(report.text(figures)))


def _log(message: str) -> None:
    console.print(f"{time.strftime('%H:%M:%S')} {message}", highlight=False)


if __name__ == "__main__":
    main()
