"""`orderctl contracts`: what may change in an event."""

import dataclasses
import json
from datetime import timedelta
from pathlib import Path

import click

from common.events import EVENTS
from console.actions import contracts as actions
from console.actions import retirement
from console.contracts.compatibility import Change
from console.settings import RetirementSettings, load_operator

#: Exit status when a change is breaking, or a type is in use.
BREAKING = 2

_released = click.option(
    "--released",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(__file__).parents[2] / "contracts/released",
    help="Folder of the released schemas, if not that of this checkout.",
)


def _known_type(_ctx: click.Context, _parameter: click.Parameter, value: str) -> str:
    # The first version has no number in its type, and people give it one.
    event_type = value.removesuffix(".v1")
    if event_type not in EVENTS:
        raise click.BadParameter(f"{value} is no event type: {', '.join(EVENTS)}")
    return event_type


@click.group()
def contracts() -> None:
    """Compare the events' contracts with the released ones, release them, and retire one."""


@contracts.command(epilog="Example: orderctl contracts check --json")
@_released
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def check(ctx: click.Context, folder: Path, *, as_json: bool) -> None:
    """Print each change since the last release; exit with 2 if one is breaking.

    Compatible is what lets services be deployed in any order, and every event that was ever sent
    be read for ever.
    """
    found = actions.check(folder)
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
    else:
        _print(found)
    if any(change.breaking for change in found):
        ctx.exit(BREAKING)


@contracts.command(epilog="Example: orderctl contracts release")
@_released
@click.pass_context
def release(ctx: click.Context, folder: Path) -> None:
    """Record the present contracts as released; exit with 2, and do not, if a change is breaking.

    A breaking change needs another event type, such as order.created.v2. Running it again changes
    nothing.
    """
    found = actions.check(folder)
    if any(change.breaking for change in found):
        _print(found)
        ctx.exit(BREAKING)
    recorded = list(actions.release(folder))
    for name in recorded:
        click.echo(f"released {name}")
    if not recorded:
        click.echo("contracts: nothing to release")


@contracts.command(epilog="Example: orderctl contracts retire order.created.v1")
@click.argument("event_type", metavar="TYPE", callback=_known_type)
@click.option(
    "--within",
    "hours",
    type=click.FloatRange(0, min_open=True),
    default=24.0,
    show_default=True,
    help="Hours for which a consumer that has handled one still uses it.",
)
@_released
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def retire(
    ctx: click.Context, event_type: str, *, hours: float, folder: Path, as_json: bool
) -> None:
    """Mark a type that nothing uses any more; exit with 2, and do not, if something does.

    TYPE may say its version: order.created.v1 is order.created. Every message stays where it is,
    but a look counts as a delivery of it. The code may lose a retired type.
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
        click.echo(use)
    for place in found.unseen:
        click.echo(f"not seen: {place}")
    if found.uses:
        click.echo(f"{event_type} is in use, in {len(found.uses)} ways: not retired")
    elif day is None:
        click.echo(f"{event_type} is used by nothing, and was never released: remove it")
    else:
        click.echo(f"{event_type} is used by nothing: retired since {day}, the code may lose it")


def _print(found: list[Change]) -> None:
    for change in found:
        click.echo(change)
    breaking = sum(change.breaking for change in found)
    told = f"{len(found) - breaking} compatible, {breaking} breaking" if found else "no"
    click.echo(f"contracts: {told} changes since the last release")


def _document(found: list[Change]) -> dict[str, object]:
    return {
        "compatible": not any(change.breaking for change in found),
        "changes": [dataclasses.asdict(change) for change in found],
    }
