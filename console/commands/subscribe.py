"""`orderctl subscribe`: adds a subscriber, and delivers history to it."""

import time

import click
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TextColumn, TimeElapsedColumn

from console.actions import subscribe as actions
from console.actions.parked import CONSUMERS
from console.actions.subscribe import Progress
from console.commands.execution.effect import changes
from console.commands.execution.json_document import documented, report
from console.commands.table import print_line
from console.commands.times import StartType
from console.commands.topology import line
from console.settings import TopologySettings, load_operator
from eventbus.messaging.stream import Start
from eventbus.topology.limits import STREAM_AGE
from eventbus.topology.service import Service


@click.command(epilog="Example: orderctl subscribe notification --from 2026-11-25T08:00Z")
@changes()
@documented("service", "queue", "copied", "too_old", "next_offset", "seconds")
@click.argument("service", type=click.Choice(list(CONSUMERS)))
@click.option(
    "--from",
    "start",
    type=StartType(),
    required=True,
    help="Where history starts: the oldest stored event, a time, or an offset.",
)
def subscribe(service: str, start: Start) -> None:
    """Bind a service's queue, then deliver history to it, up to the present.

    Applies the topology first. Events continue to arrive: the service handles each of them once,
    whether it arrives live, from history or both. Replayed events send no email. After an
    interruption, run the command again with the offset that it printed.
    """
    settings = load_operator(TopologySettings)
    started = time.monotonic()
    display = _ProgressDisplay(CONSUMERS[service])
    try:
        with display:
            done = actions.subscribe(
                settings,
                CONSUMERS[service],
                start,
                report=display,
                changed=lambda difference: print_line(line(difference), err=True),
            )
    except BaseException:
        report(next_offset=display.offset)
        if display.offset is not None:
            click.echo(
                f"stopped; to continue: orderctl subscribe {service} --from {display.offset}",
                err=True,
            )
        raise
    seconds = time.monotonic() - started
    report(
        service=service,
        queue=CONSUMERS[service].queue,
        copied=done.copied,
        too_old=done.too_old,
        next_offset=done.end,
        seconds=round(seconds, 3),
    )
    click.echo(
        f"{service}: {done.copied} events of history delivered to {CONSUMERS[service].queue} in "
        f"{seconds:.0f} s; from offset {done.end} on, events arrive live"
    )
    if done.too_old:
        click.echo(f"{service}: {done.too_old} skipped, older than {STREAM_AGE.days} days")


class _ProgressDisplay:
    """Shows progress and rate: a bar on a terminal, otherwise a line at intervals."""

    #: Seconds between two lines.
    INTERVAL = 5.0

    def __init__(self, service: Service) -> None:
        self.offset: int | None = None
        self._service = service
        self._console = Console(stderr=True)
        columns = (
            *Bar.get_default_columns()[:-1],
            TimeElapsedColumn(),
            TextColumn("{task.fields[rate]:.0f}/s"),
        )
        self._bar = Bar(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._task = self._bar.add_task(f"To {service.queue}", total=None, rate=0.0)
        self._first: int | None = None
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if progress.offset is None:
            return
        self.offset = progress.offset
        if self._first is None:
            self._first = max(0, progress.offset - progress.copied)
        now = time.monotonic()
        rate = progress.copied / max(0.001, now - self._started)
        done, total = progress.offset - self._first, progress.end - self._first
        self._bar.update(self._task, completed=min(done, total), total=total, rate=rate)
        if not self._console.is_terminal and now - self._printed > self.INTERVAL:
            self._printed = now
            click.echo(
                f"{self._service.queue}: {progress.copied} copied, {rate:.0f}/s, "
                f"offset {progress.offset} of {progress.end}",
                err=True,
            )
