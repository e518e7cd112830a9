"""`orderctl parked history`: the history of one parked message."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import shows
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import print_table
from console.parking.history import Line
from console.parking.history import history as history_of
from console.settings import RepairSettings, load_operator


@parked.command(epilog="Example: orderctl parked history inventory 01a2…")
@shows
@click.argument("service", type=SERVICE)
@click.argument("event_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def history(service: str, event_id: str, *, as_json: bool) -> None:
    """List the attempts, redrives, edits and discards of a message, and its handling.

    Redrives with `redrive --all` are not listed. With --json, the values of edits include
    customers' data.
    """
    lines = history_of(load_operator(RepairSettings), CONSUMERS[service], event_id)
    if as_json:
        click.echo(json.dumps(list(map(_document, lines)), indent=2))
    elif lines:
        print_table(("Time", "What", "By", "Version", "Details"), map(_row, lines))
    else:
        click.echo("nothing is known of this message")


def _row(line: Line) -> tuple[object, ...]:
    return (_second(line.at), line.what, line.by, line.version, line.text)


def _second(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else None


def _document(line: Line) -> dict[str, Any]:
    return asdict(line) | {"at": line.at and line.at.isoformat()}
