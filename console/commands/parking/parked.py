"""`orderctl parked`: messages that a service could not handle."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress

from console.actions import parked as actions
from console.actions.parked import CONSUMERS, Listing
from console.broker.parked_message import Parked
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name
from console.commands.table import print_table, printable
from console.parking import journal
from console.settings import BrokerAdminSettings, RedriveSettings, RepairSettings, load_operator
from eventbus.topology.service import Service

#: The type of an argument that names a service with a parking lot.
SERVICE = click.Choice(list(CONSUMERS))


def _digest(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise click.BadParameter(f"{value!r} is not a SHA-256 in hexadecimal digits")
    return value


#: An option that selects one of several bodies with which an event is parked.
DIGEST = click.option(
    "--digest",
    metavar="SHA-256",
    callback=_digest,
    help="Only messages with this body, as list --json shows it; requires exactly one --id.",
)


@click.group()
def parked() -> None:
    """Group, list, edit, redrive, discard and restore messages that a service could not handle."""


@parked.command("list", epilog="Example: orderctl parked list inventory --json")
@shows
@click.argument("service", type=SERVICE, required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000_000),
    default=100,
    show_default=True,
    help="Maximum for each service.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_parked(service: str | None, *, limit: int, as_json: bool) -> None:
    """List the oldest parked messages of one service or of all, with the reasons."""
    settings = load_operator(BrokerAdminSettings)
    services = [CONSUMERS[service]] if service else list(CONSUMERS.values())
    listings = [actions.show(settings, consumer, limit=limit) for consumer in services]
    if as_json:
        messages = [dataclasses.asdict(m) for listing in listings for m in listing.messages]
        click.echo(json.dumps(messages, indent=2))
    else:
        _print(listings)
    for listing in listings:
        name, more = listing.service.name, listing.depth - len(listing.messages)
        if len(listing.messages) == limit and more:
            click.echo(f"{name}: {more} more, see --limit", err=True)
        if listing.unread:
            click.echo(f"{name}: {listing.unread}", err=True)


@parked.command(epilog="Example: orderctl parked redrive inventory --all")
@changes(subject="event_ids", details=("every",))
@documented("service", "queue", "redriven")
@click.argument("service", type=SERVICE)
@click.option(
    "--id",
    "event_ids",
    metavar="EVENT_ID",
    multiple=True,
    help="Event to redrive; can be repeated.",
)
@click.option("--all", "every", is_flag=True, help="All messages that are parked now.")
@DIGEST
def redrive(service: str, event_ids: tuple[str, ...], *, every: bool, digest: str | None) -> None:
    """Move parked messages back to the service's queue, with no attempts counted.

    Messages of events older than PARKED_REDRIVE_DAYS stay parked: the inbox rows that mark
    them as handled may have been deleted.
    """
    if every == bool(event_ids):
        raise click.UsageError("specify either --id or --all")
    check_digest(digest, event_ids)
    consumer = CONSUMERS[service]
    report(service=service, queue=consumer.queue)
    done = _redrive_all(consumer) if every else _redrive(consumer, event_ids, digest)
    report(redriven=done)
    click.echo(f"{service}: {done} redriven to {consumer.queue}")


def _redrive(consumer: Service, event_ids: tuple[str, ...], digest: str | None) -> int:
    settings, redriven = load_operator(RepairSettings), list[str]()
    try:
        return actions.redrive(settings, consumer, event_ids, digest=digest, report=redriven.append)
    finally:
        problem = journal.record_redrives(settings, consumer, redriven, by=operator_name())
        if problem:
            click.echo(printable(f"{consumer.name}: {problem}"), err=True)


def _redrive_all(consumer: Service) -> int:
    settings = load_operator(RedriveSettings)
    with progress("Redriving") as update:
        return actions.redrive_all(settings, consumer, progress=update)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows on a terminal how many messages of a parking lot are done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, depth: bar.update(task, completed=done, total=depth)


def _print(listings: list[Listing]) -> None:
    rows = [message for listing in listings for message in listing.messages]
    if rows:
        print_parked(rows)
    elif not any(listing.unread for listing in listings):
        click.echo("no messages are parked")


def check_digest(digest: str | None, event_ids: Sequence[str]) -> None:
    """Raise `click.UsageError` if a digest is given without exactly one event."""
    if digest is not None and len(event_ids) != 1:
        raise click.UsageError("--digest requires exactly one --id")


def print_parked(rows: Iterable[Parked]) -> None:
    """Print a table of parked messages."""
    columns = ("Service", "Event", "Type", "Order", "Attempts", "Last failure", "Reason")
    print_table(columns, map(_cells, rows))


def _cells(row: Parked) -> tuple[object, ...]:
    reason = f"{row.exception}: {row.text}" if row.exception else row.text
    known = (row.service, row.id, row.type, row.order_id, row.attempts, row.last_failed_at)
    return (*known, reason)
