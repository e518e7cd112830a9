"""`orderctl health`: the problems of the broker."""

import dataclasses
import json

import click

from console.actions import health as actions
from console.commands.table import print_line
from console.settings import BrokerAdminSettings, load_operator


@click.command(epilog="Example: orderctl health --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def health(ctx: click.Context, *, as_json: bool) -> None:
    """Print a line for each problem of the broker; exit with status 1 if there is any.

    Problems are an unreachable broker, memory and disk alarms, nodes that are down, missing
    exchanges, queues and bindings, and queues that are half full, have dropped events, or have no
    consumer, no quorum or fewer replicas than the cluster has nodes. A figure that the broker does
    not report is unknown, and is not a problem.
    """
    checked = actions.check(load_operator(BrokerAdminSettings))
    findings = checked.findings
    if as_json:
        document = {
            "healthy": not findings,
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "unknown": list(checked.unknown),
        }
        click.echo(json.dumps(document, indent=2))
    else:
        for finding in findings:
            print_line(finding)
        if checked.unknown:
            print_line(f"unknown: the consumers of {', '.join(checked.unknown)}")
        elif not findings:
            click.echo("broker: healthy")
    if findings:
        ctx.exit(1)
