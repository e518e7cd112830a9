"""`orderctl parked groups`: parked messages by their cause."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import shows
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import print_table
from console.parking.memory import Known, Listing, Memory, listed
from console.settings import RepairSettings, load_operator

_CAUSE = ("Group", "Service", "Type", "Failure", "Function", "Count", "First seen", "Last seen")


@parked.command("groups", epilog="Example: orderctl parked groups --service inventory")
@shows
@click.option("--service", type=SERVICE, help="One service; by default all.")
@click.option("--earlier", is_flag=True, help="List groups without parked messages instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show_groups(service: str | None, *, earlier: bool, as_json: bool) -> None:
    """Group all parked messages by event type, failure and function, the largest group first.

    Muted groups are last. The messages stay in place, and their groups are remembered. The count is
    the number of parked messages or, with --earlier, of all failures that were seen.
    """
    settings = load_operator(RepairSettings)
    services = [CONSUMERS[service]] if service else list(CONSUMERS.values())
    listings = [listed(settings, consumer) for consumer in services]
    for problem in sorted({listing.problem for listing in listings if listing.problem}):
        click.echo(f"groups are not remembered: {problem}", err=True)
    for listing in listings:
        if listing.unread:
            click.echo(f"{listing.service.name}: {listing.unread}", err=True)
    if earlier:
        _print_earlier([memory for listing in listings for memory in listing.earlier], as_json)
    else:
        _print_present(listings, as_json)


def _print_present(listings: list[Listing], as_json: bool) -> None:
    found = [known for listing in listings for known in listing.groups]
    if as_json:
        click.echo(json.dumps(list(map(_document, found)), indent=2, default=_text))
    elif found:
        columns = (*_CAUSE, "Releases", "Example", "Owner", "Notes")
        print_table(columns, map(_row, found))
    elif not any(listing.unread for listing in listings):
        click.echo("no messages are parked")


def _print_earlier(found: list[Memory], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([asdict(memory) for memory in found], indent=2, default=_text))
    elif found:
        print_table((*_CAUSE, "Releases", "Owner", "Notes"), map(_earlier_row, found))
    else:
        click.echo("no groups without parked messages are remembered")


def _row(known: Known) -> tuple[object, ...]:
    group, memory = known.group, known.memory
    cause = (group.key, group.service, group.type, group.failure, group.frame, group.count)
    first = memory.first_seen if memory else group.first_seen
    seen = (_minute(first), _minute(group.last_seen), ", ".join(group.releases) or None)
    return (*cause, *seen, group.example, *_triage(memory))


def _earlier_row(memory: Memory) -> tuple[object, ...]:
    cause = (memory.key, memory.service, memory.type, memory.failure, memory.frame, memory.count)
    seen = (_minute(memory.first_seen), _minute(memory.last_seen))
    return (*cause, *seen, ", ".join(memory.releases) or None, *_triage(memory))


def _triage(memory: Memory | None) -> tuple[str | None, str | None]:
    if memory is None:
        return None, None
    muted = f"muted until {_minute(memory.muted_until)}" if memory.is_muted else None
    noted = f"{memory.noted_by}: {memory.note}" if memory.note else None
    return memory.owner, ". ".join(filter(None, (memory.story, muted, noted))) or None


def _minute(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else None


def _document(known: Known) -> dict[str, Any]:
    group, memory = asdict(known.group), known.memory
    del group["new"], group["since"]
    remembered = asdict(memory) | {"story": memory.story} if memory else None
    return {"key": known.group.key} | group | {"remembered": remembered}


_text: Callable[[datetime], str] = datetime.isoformat
