"""`orderctl parked discard`, `discarded` and `restore`: messages that must not be handled."""

import dataclasses
import json

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name, reason_option
from console.commands.parking.parked import DIGEST, SERVICE, check_digest, parked, print_parked
from console.commands.table import print_table, printable
from console.parking import discards
from console.settings import RepairSettings, load_operator


@parked.command(epilog='Example: orderctl parked discard inventory --id 01a2… --reason "a test"')
@changes(subject="event_ids", details=("reason",))
@click.argument("service", type=SERVICE)
@click.option(
    "--id",
    "event_ids",
    metavar="EVENT_ID",
    multiple=True,
    required=True,
    help="Event to discard; can be repeated.",
)
@DIGEST
@reason_option("Reason, which is stored with the messages.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print the full messages as JSON.")
def discard(
    service: str,
    event_ids: tuple[str, ...],
    *,
    digest: str | None,
    reason: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove messages from the parking lot and keep them; restore returns them.

    Their service does not handle these events. The messages are kept for DISCARDED_RETENTION_DAYS.
    If one of the events is not parked, or is parked with different bodies, nothing is discarded.
    With --json, the printed content includes customers' data.
    """
    check_digest(digest, event_ids)
    settings = load_operator(RepairSettings)
    if not yes:
        question = f"{service}: discard {', '.join(event_ids)}?"
        click.confirm(printable(question), abort=True, err=True)
    done = discards.discard(
        settings,
        CONSUMERS[service],
        event_ids,
        digest=digest,
        reason=reason,
        discarded_by=operator_name(),
    )
    if as_json:
        rows = [
            dataclasses.asdict(one.parked) | {"body": one.body, "discarded_id": one.id}
            for one in done
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        print_parked([one.parked for one in done])
    numbers = " ".join(str(one.id) for one in done)
    days = settings.discarded_retention_days
    click.echo(f"{service}: {len(done)} discarded, kept for {days} days as {numbers}", err=True)


@parked.command(epilog="Example: orderctl parked discarded --service inventory")
@shows
@click.option("--service", type=SERVICE, help="One service; by default all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def discarded(service: str | None, *, as_json: bool) -> None:
    """List the newest discarded messages, without their content."""
    settings = load_operator(RepairSettings)
    entries = discards.newest(settings, CONSUMERS[service] if service else None)
    if as_json:
        rows = [
            dataclasses.asdict(entry) | {"discarded_at": entry.discarded_at.isoformat()}
            for entry in entries
        ]
        click.echo(json.dumps(rows, indent=2))
    elif entries:
        columns = ("Number", "Service", "Event", "Type", "Failure", "Discarded", "By", "Reason")
        print_table(columns, map(_cells, entries))
    else:
        click.echo("no messages are discarded")


@parked.command(epilog="Example: orderctl parked restore 12 13")
@changes(subject="numbers")
@documented("restored")
@click.argument("numbers", metavar="NUMBER…", type=click.IntRange(1), nargs=-1, required=True)
def restore(numbers: tuple[int, ...]) -> None:
    """Return discarded messages to their parking lots, by their numbers."""
    settings = load_operator(RepairSettings)
    restored = list[dict[str, object]]()
    report(restored=restored)
    for number in numbers:
        entry = discards.restore(settings, number, restored_by=operator_name())
        restored.append({"number": number, "service": entry.service, "event_id": entry.event_id})
        click.echo(printable(f"{entry.service}: {entry.event_id} parked again"))


def _cells(entry: discards.Entry) -> tuple[object, ...]:
    at = entry.discarded_at.strftime("%Y-%m-%d %H:%M")
    message = (entry.id, entry.service, entry.event_id, entry.type, entry.failure)
    return (*message, at, entry.discarded_by, entry.reason)
