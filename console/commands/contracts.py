"""`orderctl contracts`: what may change in an event."""

import dataclasses
import json
from pathlib import Path

import click

from console.actions import contracts as actions
from console.compatibility import Change

#: Exit status when a change is breaking.
BREAKING = 2

_released = click.option(
    "--released",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(__file__).parents[2] / "contracts/released",
    help="Folder of the released schemas, if not that of this checkout.",
)


@click.group()
def contracts() -> None:
    """Compare the events' contracts with the released ones, and release them."""


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
