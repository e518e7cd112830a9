"""`orderctl subscribe`: a service joins, and hears of what was before."""

import time
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TextColumn, TimeElapsedColumn

from console.actions import subscribe as actions
from console.actions.parked import CONSUMERS
from console.actions.subscribe import Progress
from console.commands.topology import line
from console.settings import TopologySettings, load_operator
from eventbus.messaging.stream import Start
from eventbus.topology.limits import STREAM_AGE
from eventbus.topology.service import Service


class StartType(click.ParamType[Any]):
    """`first`, an offset, or a time with its zone."""

    name = "first|TIME|OFFSET"

    def convert(self, value: Any, param: Any, ctx: Any) -> Start:
        """Return where to begin."""
        if value == "first":
            return "first"
        if str(value).isdecimal():
            return int(value)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(
                f"{value!r} is neither `first`, nor an offset, nor a time such as "
                "2026-11-25T08:00Z",
                param,
                ctx,
            )
        return moment


@click.command(epilog="Example: orderctl subscribe notification --from 2026-11-25T08:00Z")
@click.argument("service", type=click.Choice(list(CONSUMERS)))
@click.option(
    "--from",
    "start",
    type=StartType(),
    required=True,
    help="Where history begins: the oldest event that is kept, a time, or an offset.",
)
def subscribe(service: str, start: Start) -> None:
    """Bind a service's queue, then put history on it, up to the present.

    Applies the topology first. Events keep coming meanwhile: the service handles each once, whether
    it comes live, from history or both ways. Nobody outside gets a mail because of history. Run it
    again after an interruption: it does the rest.
    """
    settings = load_operator(TopologySettings)
    begun = time.monotonic()
    told = _Told(CONSUMERS[service])
    try:
        with told:
            done = actions.subscribe(
                settings,
                CONSUMERS[service],
                start,
                tell=told,
                changed=lambda found: click.echo(line(found), err=True),
            )
    except BaseException:
        if told.offset is not None:
            click.echo(
                f"stopped; to go on: orderctl subscribe {service} --from {told.offset}", err=True
            )
        raise
    seconds = time.monotonic() - begun
    click.echo(
        f"{service}: {done.copied} events of history on {CONSUMERS[service].queue}, in "
        f"{seconds:.0f} s; from offset {done.end} on it hears them live"
    )
    if done.too_old:
        click.echo(f"{service}: {done.too_old} are left out, older than {STREAM_AGE.days} days")


class _Told:
    """Shows how far it is, and how fast: a bar on a terminal, else a line now and then."""

    #: Seconds between two lines.
    PAUSE = 5.0

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
        self._begun = self._said = time.monotonic()

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
        rate = progress.copied / max(0.001, now - self._begun)
        done, total = progress.offset - self._first, progress.end - self._first
        self._bar.update(self._task, completed=min(done, total), total=total, rate=rate)
        if not self._console.is_terminal and now - self._said > self.PAUSE:
            self._said = now
            click.echo(
                f"{self._service.queue}: {progress.copied} copied, {rate:.0f}/s, "
                f"offset {progress.offset} of {progress.end}",
                err=True,
            )
