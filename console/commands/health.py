"""`orderctl health`: the problems of the broker."""

import dataclasses
import json

import click

from console.actions import health as actions
from console.commands.execution.effect import shows
from console.commands.pauses import description, document
from console.commands.table import print_line
from console.databases.pauses import Pauses, read_all
from console.settings import BrokerAdminSettings, DatabaseSettings, load_operator
from eventbus.settings.base import SettingsError


@click.command(epilog="Example: orderctl health --json")
@shows
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def health(ctx: click.Context, *, as_json: bool) -> None:
    """Print a line for each problem of the broker; exit with status 1 if there is any.

    Problems are an unreachable broker, memory and disk alarms, nodes that are down, missing
    exchanges, queues and bindings, and queues that are half full, have dropped events, or have no
    consumer, no quorum or fewer replicas than the cluster has nodes. A figure that the broker does
    not report is unknown, and is not a problem. A service that is paused is listed, and its missing
    consumer is not a problem.
    """
    checked = actions.check(load_operator(BrokerAdminSettings))
    pauses = _pauses()
    findings = actions.without_paused(checked.findings, pauses)
    if as_json:
        listing = {
            "healthy": not findings,
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "paused": [document(name, pause) for name, pause in pauses.paused.items()],
            "unknown": list(checked.unknown),
            "unknown_pauses": dict(pauses.problems),
        }
        click.echo(json.dumps(listing, indent=2))
    else:
        for finding in findings:
            print_line(finding)
        for name, pause in pauses.paused.items():
            print_line(f"{name}: {description(pause)}")
        for name, problem in pauses.problems.items():
            print_line(f"{name}: unknown whether it is paused: {problem}", err=True)
        if checked.unknown:
            print_line(f"unknown: the consumers of {', '.join(checked.unknown)}")
        elif not findings:
            click.echo("broker: healthy")
    if findings:
        ctx.exit(1)


def _pauses() -> Pauses:
    """Return the pauses of all services; a pause that cannot be read excuses nothing.

    They do not depend on the findings: the broker's statistics are seconds behind a pause.
    """
    try:
        return read_all(load_operator(DatabaseSettings))
    except SettingsError:
        # A monitor of the broker has no access to the databases.
        return Pauses()
