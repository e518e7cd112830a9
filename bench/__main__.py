"""What the system does in a second, as it is run and against the usual way: `make bench`."""

import os
import time

import click
from rich.console import Console
from rich.markdown import Markdown

from bench import report, results, sizing
from bench.figures import plot
from bench.load import seeding
from bench.plan import Parts
from deploy.local import REPOSITORY

STATE = REPOSITORY / ".run-bench"
PARTS = ("full", "lean", "baseline", "relay", "inventory", "intake", "orders", "growth")

#: A load before anything was started beyond which the figures are not the system's alone.
BUSY = 0.5

console = Console()


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="These parts only.")
@click.option("--profile", is_flag=True, help="Record where the time goes, and nothing else.")
@click.option("--repeat", default=3, show_default=True, type=click.IntRange(1))
@click.option(
    "--seconds",
    default=60,
    show_default=True,
    type=click.IntRange(3),
    help="Of each run of orders; what is shorter than 60 is a trial.",
)
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
    chosen = only or PARTS
    if (load := os.getloadavg()[0]) > BUSY:
        _tell(f"the machine is busy (load {load:.1f}): what else runs is in every figure")
    with Parts(STATE, repeat, seconds, rows, _tell) as parts:
        if profile:
            results.record("profile", parts.profile(), {"seconds": seconds})
            chosen = ()
        if "growth" in chosen:
            # Before the others take their hours.
            seeding.require_space(REPOSITORY, rows)
        for part, measure in parts.measures.items():
            if part in chosen:
                results.record(part, measure(), {"repeat": repeat, "seconds": seconds})
    found = results.read()
    report.write(found)
    sizing.write(found)
    if "orders" in chosen:
        plot.draw(found["latency_ms"])
    console.print(Markdown(report.text(found)))


def _tell(what: str) -> None:
    console.print(f"{time.strftime('%H:%M:%S')} {what}", highlight=False)


if __name__ == "__main__":
    main()
