"""`orderctl parked edit`: corrects the payload of one parked message."""

import dataclasses
import json
from typing import Any, BinaryIO

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import changes
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name, reason_option
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import printable
from console.errors import ActionError
from console.parking import edit
from console.parking.difference import with_value
from console.parking.edit import Edit, Original
from console.settings import RepairSettings, load_operator
from eventbus.messaging.untrusted import BODY_LIMIT


@parked.command(
    "edit",
    epilog="Example: orderctl parked edit inventory 01a2…"
    ' --set data.lines[0].quantity=2 --reason "typing error" --redrive',
)
@changes(subject="event_id", details=("reason", "redrive"))
@documented("service", "event_id", "payload", "changes", "effect", "redriven")
@click.argument("service", type=SERVICE)
@click.argument("event_id")
@click.option(
    "--set",
    "assignments",
    metavar="PATH=JSON",
    multiple=True,
    help="Value to replace or add: data.lines[0].sku='\"TEA\"'; can be repeated.",
)
@click.option("--file", type=click.File("rb"), help="File with the edited payload, or - for stdin.")
@reason_option("Reason, which is stored with the difference.", required=False)
@click.option(
    "--redrive", is_flag=True, help="Redrive the edited message instead of leaving it parked."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def edit_message(
    service: str,
    event_id: str,
    *,
    assignments: tuple[str, ...],
    file: BinaryIO | None,
    reason: str | None,
    redrive: bool,
    yes: bool,
) -> None:
    """Correct the payload of a parked message; without --set and --file, print the payload.

    The payload is the `data` of the event, and must conform to the contract of its type. The rest
    of the event, such as its id, cannot be edited. The payload includes customers' data.
    """
    is_edit = bool(assignments) or file is not None
    if is_edit and not reason:
        raise click.UsageError("specify --reason")
    if not is_edit and (redrive or reason):
        raise click.UsageError("specify --set or --file")
    settings, consumer = load_operator(RepairSettings), CONSUMERS[service]
    original = edit.read(settings, consumer, event_id)
    report(service=service, event_id=event_id, effect=original.effect)
    if not is_edit:
        report(payload=json.loads(original.text))
        click.echo(original.text)
        return
    wanted = edit.edit(original, _payload(original, file, assignments))
    report(changes=[dataclasses.asdict(change) for change in wanted.changes])
    _show(wanted, redrive=redrive)
    if not yes:
        click.confirm(printable(f"{service}: edit {event_id}?"), abort=True, err=True)
    edit.publish(
        settings, consumer, wanted, reason=reason or "", edited_by=operator_name(), redrive=redrive
    )
    report(redriven=redrive)
    result = f"redriven to {consumer.queue}" if redrive else "parked again"
    click.echo(printable(f"{service}: {event_id} edited and {result}"))


def _payload(original: Original, file: BinaryIO | None, assignments: tuple[str, ...]) -> Any:
    payload = json.loads(original.text) if file is None else _decoded(file)
    for assignment in assignments:
        payload = with_value(payload, assignment)
    return payload


def _decoded(file: BinaryIO) -> Any:
    content = file.read(BODY_LIMIT + 1)
    if len(content) > BODY_LIMIT:
        raise ActionError(f"--file: more than {BODY_LIMIT} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ActionError(f"--file: not JSON: {error}") from None


def _show(wanted: Edit, *, redrive: bool) -> None:
    for change in wanted.changes:
        click.echo(printable(f"  {change}"), err=True)
    if redrive:
        effect = wanted.original.effect or "unknown: a database is unavailable"
        click.echo(f"effect of the redrive: {effect}", err=True)
