"""`orderctl topology`: the broker's exchanges, queues, bindings, users and rights."""

import json
from typing import Any

import click

from console.actions import topology as actions
from console.actions.topology import Plan
from console.broker.topology_diff import Difference
from console.settings import TopologySettings, load_operator

#: Exit status when the broker is not as the code says.
DRIFT = 2


@click.group()
def topology() -> None:
    """Compare the broker with the code, and make it so."""


@topology.command(epilog="Example: orderctl topology plan --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def plan(ctx: click.Context, *, as_json: bool) -> None:
    """Print how the broker differs from the code; exit with 2 if it does."""
    found = actions.plan(load_operator(TopologySettings))
    if as_json:
        click.echo(json.dumps(_document(found), indent=2))
    else:
        _print(found)
    if found.differences:
        ctx.exit(DRIFT)


@topology.command(epilog="Example: orderctl topology apply")
@click.option("--prune", is_flag=True, help="Delete bindings that the code does not know, too.")
@click.pass_context
def apply(ctx: click.Context, *, prune: bool) -> None:
    """Make the broker as the code says; exit with 2 if something is left to you.

    Prints a line for each change. Running it again changes nothing. It deletes the user guest, but
    never a queue or an exchange. A service's queue with other arguments is replaced, and its
    messages are kept. A binding that the code does not know may be a newer release's: without
    --prune it stays, and is no reason for the exit status.
    """
    left = 0
    found: Difference | None = None
    for found in actions.apply(load_operator(TopologySettings), prune=prune):
        click.echo(line(found))
        left += found.remedy is not None and not found.is_harmless
    if found is None:
        click.echo("topology: nothing to change")
    if left:
        ctx.exit(DRIFT)


def line(found: Difference) -> str:
    """Return what became of a difference, in one line."""
    obvious = found.outcome in ("created", "removed")
    return f"{found.outcome} " + (f"{found.kind} {found.name}" if obvious else str(found))


def _print(found: Plan) -> None:
    for item in found.differences:
        click.echo(item)
    for name in found.unmanaged:
        click.echo(f"{name}: unmanaged")
    for text in found.unchecked:
        click.echo(f"unchecked: {text}")
    count = len(found.differences)
    click.echo(f"topology: {count or 'no'} {'difference' if count == 1 else 'differences'}")


def _document(found: Plan) -> dict[str, Any]:
    return {
        "drift": bool(found.differences),
        "differences": [
            {"kind": d.kind, "name": d.name, "problem": d.problem, "remedy": d.remedy}
            for d in found.differences
        ],
        "unmanaged": list(found.unmanaged),
        "unchecked": list(found.unchecked),
    }
