"""`orderctl contracts`: the compatibility of event contracts."""

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import click

from common.events import EVENTS
from console.actions import contracts as actions
from console.actions import retirement
from console.commands.execution.effect import shows, writes
from console.commands.execution.json_document import documented, report
from console.commands.table import print_line
from console.contracts.compatibility import Change
from console.settings import RetirementSettings, load_operator

#: Exit status if a change is breaking, or if a type is in use.
BREAKING = 2

_released = click.option(
    "--released",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(__file__).parents[2] / "contracts/released",
    help="Folder of the released schemas, by default that of this checkout.",
)


def _known_type(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    # The type of the first version has no number, but is often written with one.
    event_type = value.removesuffix(".v1")
    if event_type not in EVENTS:
        raise click.BadParameter(f"{value} is not an event type: {', '.join(EVENTS)}")
    return event_type


@click.group()
def contracts() -> None:
    """Compare event contracts with the released ones, release them, and retire a type."""


@contracts.command(epilog="Example: orderctl contracts check --json")
@shows
@_released
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def check(ctx: click.Context, folder: Path, *, as_json: bool) -> None:
    """Print each change since the last release; exit with status 2 if one is breaking.

    With compatible changes, services can be deployed in any order, and every published event
    remains readable indefinitely.
    """
    changes = actions.check(folder)
    if as_json:
        click.echo(json.dumps(_document(changes), indent=2))
    else:
        _print(changes)
    if any(change.breaking for change in changes):
        ctx.exit(BREAKING)


@contracts.command(epilog="Example: orderctl contracts release")
@writes
@documented("released", "changes")
@_released
@click.pass_context
def release(ctx: click.Context, folder: Path) -> None:
    """Record the current contracts as released; if a change is breaking, exit with status 2.

    A breaking change requires a new event type, such as order.created.v2. Running the command again
    changes nothing.
    """
    changes = actions.check(folder)
    report(changes=[dataclasses.asdict(change) for change in changes], released=[])
    if any(change.breaking for change in changes):
        _print(changes)
        ctx.exit(BREAKING)
    recorded = list(actions.release(folder))
    report(released=recorded)
    for name in recorded:
        click.echo(f"released {name}")
    if not recorded:
        click.echo("contracts: nothing to release")


@contracts.command(epilog="Example: orderctl contracts retire order.created.v1")
@writes
@click.argument("event_type", metavar="TYPE", callback=_known_type)
@click.option(
    "--within",
    "hours",
    type=click.FloatRange(0, 24 * 36_525, min_open=True),
    default=24.0,
    show_default=True,
    help="A consumer counts as a use if it handled the type within this many hours.",
)
@_released
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def retire(
    ctx: click.Context, event_type: str, *, hours: float, folder: Path, as_json: bool
) -> None:
    """Mark an unused type as retired; if it is still used, exit with status 2.

    TYPE may include a version: order.created.v1 is order.created. Every message stays in place, but
    its inspection counts as a delivery. A retired type can be removed from the code.
    """
    settings = load_operator(RetirementSettings)
    found = retirement.uses(settings, event_type, within=timedelta(hours=hours))
    day = None if found.uses else actions.retire(folder, event_type)
    if as_json:
        document = {"type": event_type, "retired": not found.uses, "since": day}
        click.echo(json.dumps(document | dataclasses.asdict(found), indent=2))
    else:
        _print_findings(event_type, found, day)
    if found.uses:
        ctx.exit(BREAKING)


def _print_findings(event_type: str, found: retirement.Findings, day: str | None) -> None:
    for use in found.uses:
        print_line(use)
    for place in found.unseen:
        print_line(f"not inspected: {place}")
    if found.uses:
        click.echo(f"{event_type} is not retired; remaining uses: {len(found.uses)}")
    elif day is None:
        click.echo(f"{event_type} is unused and was never released: remove it from the code")
    else:
        click.echo(f"{event_type} is unused: retired since {day}, it can be removed from the code")


def _print(changes: list[Change]) -> None:
    for change in changes:
        click.echo(change)
    breaking = sum(change.breaking for change in changes)
    counts = f"{len(changes) - breaking} compatible, {breaking} breaking" if changes else "no"
    click.echo(f"contracts: {counts} changes since the last release")


def _document(changes: list[Change]) -> dict[str, object]:
    return {
        "compatible": not any(change.breaking for change in changes),
        "changes": [dataclasses.asdict(change) for change in changes],
    }
