"""`orderctl parked`: messages that a service could not handle."""

import dataclasses
import json
from collections.abc import Iterable

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from console.actions import parked as actions
from console.actions.parked import CONSUMERS, Listing
from console.broker.parked_message import Parked
from console.settings import BrokerAdminSettings, RedriveSettings, load_operator

_service = click.Choice(list(CONSUMERS))


@click.group()
def parked() -> None:
    """Show what a service could not handle, let it try again, or give it up."""


@parked.command("list", epilog="Example: orderctl parked list inventory --json")
@click.argument("service", type=_service, required=False)
@click.option("--limit", type=click.IntRange(1), default=100, help="Messages of each service.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_parked(service: str | None, *, limit: int, as_json: bool) -> None:
    """Show the oldest parked messages, of one service or of all, and why they are parked."""
    settings = load_operator(BrokerAdminSettings)
    services = [CONSUMERS[service]] if service else list(CONSUMERS.values())
    listings = [actions.show(settings, each, limit=limit) for each in services]
    if as_json:
        messages = [dataclasses.asdict(m) for listing in listings for m in listing.messages]
        click.echo(json.dumps(messages, indent=2))
    else:
        _print(listings)
    for listing in listings:
        if more := listing.depth - len(listing.messages):
            click.echo(f"{listing.service.name}: {more} more, see --limit", err=True)


@parked.command(epilog="Example: orderctl parked redrive inventory --all")
@click.argument("service", type=_service)
@click.option("--id", "event_ids", metavar="EVENT_ID", multiple=True, help="May be repeated.")
@click.option("--all", "every", is_flag=True, help="Everything that is parked now.")
def redrive(service: str, event_ids: tuple[str, ...], *, every: bool) -> None:
    """Put parked messages back on the service's queue, as if they had never failed.

    Those of events that are older than PARKED_REDRIVE_DAYS stay where they are: the service may not
    know any more that it has handled them.
    """
    if every == bool(event_ids):
        raise click.UsageError("give either --id or --all")
    settings = load_operator(RedriveSettings)
    own = CONSUMERS[service]
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Putting back", total=None)
        done = (
            actions.redrive_all(
                settings, own, progress=lambda n, depth: bar.update(task, completed=n, total=depth)
            )
            if every
            else actions.redrive(settings, own, event_ids)
        )
    click.echo(f"{service}: {done} put back on {own.queue}")


@parked.command(epilog="Example: orderctl parked discard inventory --id 01a2… --json > file")
@click.argument("service", type=_service)
@click.option(
    "--id", "event_ids", metavar="EVENT_ID", multiple=True, required=True, help="May be repeated."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print all that they said, customers too.")
def discard(service: str, event_ids: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Delete parked messages for ever, and print what they were.

    Their service never handles these events. If one of them is not parked, nothing is deleted.
    """
    settings = load_operator(BrokerAdminSettings)
    own = CONSUMERS[service]
    if not yes:
        question = f"{service}: delete {', '.join(event_ids)} for ever?"
        click.confirm(_printable(question), abort=True, err=True)
    done = actions.discard(settings, own, event_ids)
    if as_json:
        rows = [dataclasses.asdict(each.parked) | {"body": each.body} for each in done]
        click.echo(json.dumps(rows, indent=2))
    else:
        _print_table([each.parked for each in done])
    click.echo(f"{service}: {len(done)} deleted for ever", err=True)


def _print(listings: list[Listing]) -> None:
    rows = [message for listing in listings for message in listing.messages]
    if not rows:
        click.echo("nothing is parked")
        return
    _print_table(rows)


def _print_table(rows: Iterable[Parked]) -> None:
    table = Table("Service", "Event", "Type", "Order", "Attempts", "Last failure", "Why", box=None)
    for row in rows:
        why = f"{row.exception}: {row.text}" if row.exception else row.text
        cells = (row.service, row.id, row.type, row.order_id, row.attempts, row.last_failed_at, why)
        table.add_row(*("-" if cell is None else _printable(str(cell)) for cell in cells))
    console = Console()
    # A pipe gets whole lines, a terminal gets lines that fit.
    Console(width=None if console.is_terminal else 10_000, markup=False).print(table)


def _printable(text: str) -> str:
    # A stranger may have written it: nothing in it may steer the terminal.
    return "".join(character if character.isprintable() else " " for character in text)
