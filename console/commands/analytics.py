"""`orderctl analytics`: the figures that are derived from past events."""

import json
import sys
import time
from datetime import UTC

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from analytics_worker.replay import Progress, Rebuilt
from console.actions import analytics as actions
from console.commands.execution.effect import changes
from console.commands.times import StartType
from console.settings import ReplaySettings, load_operator
from eventbus.messaging.stream import Start


@click.group()
def analytics() -> None:
    """Rebuild the figures from the stream of past events."""


@analytics.command(epilog="Example: orderctl analytics replay --from 2026-11-24T18:00")
@changes(service="analytics")
@click.option(
    "--from",
    "start",
    type=StartType(UTC),
    required=True,
    help="First message to read; times in UTC by default.",
)
@click.option(
    "--within",
    type=click.FloatRange(1, 1e9),
    default=3600.0,
    show_default=True,
    help="Maximum duration in seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def replay(start: Start, *, within: float, as_json: bool) -> None:
    """Rebuild the figures separately from the live ones, then swap them.

    Minutes before the start stay unchanged. The reader keeps running; afterwards no event is
    missing or counted twice. If the replay fails, nothing is changed.
    """
    settings = load_operator(ReplaySettings)
    columns = (
        TextColumn("Reading"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} events/s"),
    )
    started = time.monotonic()
    with Bar(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None, rate="")

        def show(progress: Progress) -> None:
            rate = f"{progress.read / max(0.001, time.monotonic() - started):,.0f}"
            bar.update(task, completed=progress.read, total=progress.total, rate=rate)

        done = actions.replay(settings, start, limit=within, progress=show)
    click.echo(json.dumps(_document(done), indent=2) if as_json else _line(done))


def _line(done: Rebuilt) -> str:
    scope = f"minutes since {done.since:%Y-%m-%d %H:%M}" if done.since else "everything"
    return (
        f"analytics: {scope} rebuilt from {done.events:,} events, offsets {done.first_offset} to "
        f"{done.last_offset}, in {done.seconds:.1f} s ({done.events / done.seconds:,.0f}/s)"
    )


def _document(done: Rebuilt) -> dict[str, object]:
    return {
        "since": done.since.isoformat() if done.since else None,
        "first_offset": done.first_offset,
        "last_offset": done.last_offset,
        "events": done.events,
        "seconds": round(done.seconds, 3),
    }
