"""`orderctl restore`: finds a database that is behind the others, and brings it up to date."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import datetime

import click

from common.kombu_topology import INVENTORY, SERVICES
from common.kombu_topology import service as of_name
from console.broker.topology_diff import Difference
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.reached import reached
from console.commands.table import print_line
from console.commands.times import Moment
from console.commands.topology import line
from console.ledger.books import Books
from console.ledger.reconciliation import PAUSE, SEARCH, Effort
from console.restore.check import check as check_databases
from console.restore.check import entry_lines
from console.restore.entries import lost_entries
from console.restore.heal import Healed, heal_broker
from console.restore.heal import heal as heal_service
from console.settings import LedgerSettings, RestoreSettings, load_operator

#: The choice in addition to the services.
_BROKER = "broker"

_since = click.option(
    "--since",
    type=Moment(),
    help="An age or a time before the backup; default: all events that are kept.",
)
_wait = click.option(
    "--wait",
    type=click.FloatRange(20, 600),
    default=SEARCH,
    show_default=True,
    help="Seconds to search the queues for events that are not handled.",
)


@click.group()
def restore() -> None:
    """Find a database that was restored from a backup, and bring it up to date from the others."""


@restore.command(epilog="Example: orderctl restore check --since 2026-11-29T03:00 --json")
@shows
@click.option(
    "--service",
    "name",
    type=click.Choice([each.name for each in SERVICES]),
    help="The database to check; default: all.",
)
@_since
@_wait
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def check(
    ctx: click.Context, *, name: str | None, since: datetime | None, wait: float, as_json: bool
) -> None:
    """Report which database is behind the others, and exit with status 1 if one is.

    The outboxes are compared with the stream, the inboxes with the outboxes, and the orders with
    the records of other services. Entries of the warehouse that the audit log contains and the
    inventory does not are listed as commands; they also cause exit status 1. Exit status 2: a
    server could not be reached.
    """
    settings = load_operator(LedgerSettings)
    services = [of_name(name)] if name else list(SERVICES)
    with reached(), Books.opened(settings) as books:
        effort = Effort(pause=PAUSE, search=wait)
        found = check_databases(settings, books, services, since=since, effort=effort)
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        for finding in found.lines():
            print_line(finding)
        for each in found.behind:
            print_line(f"to bring it up to date: orderctl restore heal --service {each}")
        if not found.behind:
            print_line("no database is behind the others")
    if found.behind or found.lost_entries:
        ctx.exit(1)


@restore.command(epilog="Example: orderctl restore heal --service inventory --since 2d")
@changes(details=("since",))
@documented("service", "restored", "delivered", "held", "unexamined", "lost_entries")
@click.option(
    "--service",
    type=click.Choice([*(each.name for each in SERVICES), _BROKER]),
    required=True,
    help="The service whose database was restored, or the broker that has lost its data.",
)
@_since
@_wait
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def heal(*, service: str, since: datetime | None, wait: float, yes: bool) -> None:
    """Bring the database of a service up to date, or the broker after a loss of its data.

    Stop the processes of the service first. Its own published events are restored with their
    records, and the events that it lacks are delivered to it again. Other services do not receive
    events. After an interruption, run the command again. Lost entries of the warehouse are listed
    as commands, which enter them again.

    With `broker`, the broker's objects are declared, and each sent event that is in no inbox is
    delivered to the service that lacks it.
    """
    settings = load_operator(RestoreSettings)
    if not yes:
        written = "declare the broker's objects" if service == _BROKER else f"write to {service}"
        click.confirm(f"{written}, and deliver events again?", abort=True, err=True)
    effort = Effort(pause=PAUSE, search=wait)
    with Books.opened(settings) as books:
        if service == _BROKER:
            healed = heal_broker(
                settings, books, since=since, effort=effort, changed=_changed, report=_print
            )
        else:
            healed = heal_service(
                settings, books, of_name(service), since=since, effort=effort, report=_print
            )
        lost = lost_entries(books, since=since) if service == INVENTORY.name else []
    report(
        service=service,
        **dataclasses.asdict(healed),
        lost_entries=[each.command for each in lost],
    )
    for result in (*_lines(service, healed), *entry_lines(lost)):
        print_line(result)


def _changed(difference: Difference) -> None:
    _print(line(difference))


def _print(step: str) -> None:
    print_line(step, err=True)


def _lines(name: str, healed: Healed) -> Iterator[str]:
    if name != _BROKER:
        yield f"{name}: {healed.restored} of its own events restored with their records"
    yield f"{name}: {healed.delivered} events delivered again"
    if healed.held:
        yield f"{name}: {healed.held} emails held, which were most likely sent"
    if healed.unexamined:
        yield f"{name}: {healed.unexamined} events were not examined: run the command again"
