"""`orderctl pause`, `resume` and `paused`: pauses of a service's consumption."""

import json

import click

from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name, reason_option
from console.commands.orders.listing import second
from console.commands.table import print_line, print_table
from console.databases import pauses as actions
from console.databases.pauses import CONSUMERS
from console.settings import DatabaseSettings, load_operator
from eventbus.consumer.operator_pause import OperatorPause

_SERVICE = click.Choice(tuple(CONSUMERS))


@click.command(
    epilog='Example: orderctl pause notification --reason "release 12 sends wrong emails"'
)
@changes(details=("reason",))
@documented("service", "reason", "earlier")
@click.argument("service", type=_SERVICE)
@reason_option("Reason, for other operators.")
def pause(service: str, *, reason: str) -> None:
    """Pause the consumption of one service until it is resumed.

    Its workers stop within seconds, even those that start later: they return their messages to the
    queue without counting an attempt. The service's relay or mailer and all other services
    continue. Pausing a service again changes nothing, and keeps the first reason.
    """
    settings = load_operator(DatabaseSettings)
    earlier = actions.begin(settings, CONSUMERS[service], reason=reason, operator=operator_name())
    report(service=service, reason=reason, earlier=earlier and document(service, earlier))
    print_line(f"{service}: already {description(earlier)}" if earlier else f"{service}: paused")


@click.command(epilog="Example: orderctl resume notification")
@changes()
@documented("service", "ended")
@click.argument("service", type=_SERVICE)
def resume(service: str) -> None:
    """Resume the consumption of one service; if it is not paused, nothing changes."""
    ended = actions.end(load_operator(DatabaseSettings), CONSUMERS[service])
    report(service=service, ended=ended and document(service, ended))
    print_line(
        f"{service}: resumed; was {description(ended)}" if ended else f"{service}: not paused"
    )


@click.command(epilog="Example: orderctl paused --json")
@shows
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def paused(ctx: click.Context, *, as_json: bool) -> None:
    """List the paused services; exit with status 1 if a database is down."""
    found = actions.read_all(load_operator(DatabaseSettings))
    if as_json:
        listing = {
            "paused": [document(name, pause) for name, pause in found.paused.items()],
            "unknown": dict(found.problems),
        }
        click.echo(json.dumps(listing, indent=2))
    elif found.paused:
        columns = ("Service", "Since", "By", "Reason")
        rows = [
            (name, second(pause.paused_at), pause.paused_by, pause.reason)
            for name, pause in found.paused.items()
        ]
        print_table(columns, rows)
    elif not found.problems:
        click.echo("no service is paused")
    if found.problems:
        for name, problem in found.problems.items():
            print_line(f"{name}: unknown: {problem}", err=True)
        ctx.exit(1)


def document(name: str, pause: OperatorPause) -> dict[str, str | float]:
    """Return a pause as JSON."""
    return {
        "service": name,
        "since": pause.paused_at.isoformat(),
        "seconds": round(pause.seconds, 1),
        "by": pause.paused_by,
        "reason": pause.reason,
    }


def description(pause: OperatorPause) -> str:
    """Return the operator, the time and the reason of a pause in one line."""
    return f"paused by {pause.paused_by} since {second(pause.paused_at)} UTC: {pause.reason}"
