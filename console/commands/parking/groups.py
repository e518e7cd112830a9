"""`orderctl parked groups`: parked messages by their cause."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from console.actions.parked import CONSUMERS
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import print_table
from console.parking.groups import Group, groups
from console.settings import BrokerAdminSettings, load_operator


@parked.command("groups", epilog="Example: orderctl parked groups --service inventory")
@click.option("--service", type=SERVICE, help="One service; by default all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_groups(service: str | None, *, as_json: bool) -> None:
    """Group all parked messages by event type, failure and function, the largest group first.

    The messages stay in place.
    """
    settings = load_operator(BrokerAdminSettings)
    services = [CONSUMERS[service]] if service else list(CONSUMERS.values())
    found = [group for consumer in services for group in groups(settings, consumer)]
    if as_json:
        click.echo(json.dumps(list(map(_document, found)), indent=2))
    elif found:
        columns = ("Service", "Type", "Failure", "Function", "Count", "First seen", "Last seen")
        print_table((*columns, "Releases", "Example"), map(_row, found))
    else:
        click.echo("no messages are parked")


def _row(group: Group) -> tuple[object, ...]:
    cause = (group.service, group.type, group.failure, group.frame, group.count)
    seen = (_minute(group.first_seen), _minute(group.last_seen), ", ".join(group.releases) or None)
    return (*cause, *seen, group.example)


def _minute(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else None


def _document(group: Group) -> dict[str, Any]:
    times = {"first_seen": group.first_seen, "last_seen": group.last_seen}
    return asdict(group) | {name: at and at.isoformat() for name, at in times.items()}
