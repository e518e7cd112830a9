"""`orderctl parked note`, `assign` and `mute`: operators' notes on a failure group."""

from datetime import timedelta

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import changes
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name, reason_option
from console.commands.parking.parked import SERVICE, parked
from console.commands.table import printable
from console.commands.times import Age
from console.parking import triage
from console.parking.memory import Memory
from console.settings import DatabaseSettings, load_operator

_key = click.argument("key", metavar="GROUP")
_documented = documented(*("service", "group", "type", "failure", "note", "owner", "muted_until"))


@parked.command(epilog='Example: orderctl parked note inventory 3f2a… "fixed in release 12"')
@changes(subject="key")
@_documented
@click.argument("service", type=SERVICE)
@_key
@click.argument("text")
def note(service: str, key: str, text: str) -> None:
    """Set the note of a group, as groups shows it; earlier notes are kept in its journal."""
    settings = load_operator(DatabaseSettings)
    _show(triage.note(settings, CONSUMERS[service], key, text, by=operator_name()), "noted")


@parked.command(epilog="Example: orderctl parked assign inventory 3f2a… anna")
@changes(subject="key", details=("owner", "clear"))
@_documented
@click.argument("service", type=SERVICE)
@_key
@click.argument("owner", required=False)
@click.option("--clear", is_flag=True, help="Remove the owner.")
def assign(service: str, key: str, owner: str | None, *, clear: bool) -> None:
    """Set the owner of a group."""
    if clear == bool(owner):
        raise click.UsageError("specify either an owner or --clear")
    settings = load_operator(DatabaseSettings)
    memory = triage.assign(settings, CONSUMERS[service], key, owner, by=operator_name())
    _show(memory, f"assigned to {memory.owner}" if memory.owner else "has no owner")


@parked.command(epilog="Example: orderctl parked mute inventory 3f2a… --for 3d")
@changes(subject="key", details=("duration", "reason", "off"))
@_documented
@click.argument("service", type=SERVICE)
@_key
@click.option("--for", "duration", type=Age(), help="Until the end of the mute; default: 7d.")
@reason_option("Reason, which is kept in the journal of the group.", required=False)
@click.option("--off", is_flag=True, help="End the mute.")
def mute(
    service: str, key: str, *, duration: timedelta | None, reason: str | None, off: bool
) -> None:
    """List a group after the others for a while; metrics and alerts do not change."""
    if off and (duration or reason):
        raise click.UsageError("specify either --off or --for and --reason")
    settings, consumer, by = load_operator(DatabaseSettings), CONSUMERS[service], operator_name()
    if off:
        _show(triage.unmute(settings, consumer, key, by=by), "not muted")
        return
    length = triage.MUTED if duration is None else duration
    memory = triage.mute(settings, consumer, key, length, by=by, reason=reason)
    _show(memory, f"muted until {memory.muted_until:%Y-%m-%d %H:%M}")


def _show(memory: Memory, result: str) -> None:
    report(
        service=memory.service,
        group=memory.key,
        type=memory.type,
        failure=memory.failure,
        note=memory.note,
        owner=memory.owner,
        muted_until=memory.muted_until and memory.muted_until.isoformat(),
    )
    cause = f"{memory.type or 'unknown'}, {memory.failure}"
    click.echo(printable(f"{memory.service} {memory.key} ({cause}): {result}"))
