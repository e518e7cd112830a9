"""`orderctl topology`: the broker's exchanges, queues, bindings, users and permissions."""

import json
from typing import Any

import click

from common.kombu_topology import service as find
from common.queue_parts import DIVISIBLE
from console.actions import topology as actions
from console.actions.topology import Plan
from console.broker.topology_diff import Difference
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.table import print_line
from console.scaling.scale import scale as change
from console.settings import ScaleSettings, TopologySettings, load_operator
from eventbus.topology.limits import PARTS_LIMIT

#: Exit status if the broker differs from the code.
DRIFT = 2


@click.group()
def topology() -> None:
    """Compare the broker with the code, and make the broker match."""


@topology.command(epilog="Example: orderctl topology plan --json")
@shows
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def plan(ctx: click.Context, *, as_json: bool) -> None:
    """Print how the broker differs from the code; exit with status 2 if it does."""
    drift = actions.plan(load_operator(TopologySettings))
    if as_json:
        click.echo(json.dumps(_document(drift), indent=2))
    else:
        _print(drift)
    if drift.differences:
        ctx.exit(DRIFT)


@topology.command(epilog="Example: orderctl topology apply")
@changes(details=("prune",))
@documented("changes", "left")
@click.option("--prune", is_flag=True, help="Also delete bindings that are not in the code.")
@click.pass_context
def apply(ctx: click.Context, *, prune: bool) -> None:
    """Make the broker match the code; exit with status 2 if manual work remains.

    Prints a line for each change. Running the command again changes nothing. It deletes the
    user guest, but no queue or exchange. A service's queue with other arguments is replaced,
    and its messages are kept. A binding that is not in the code may belong to a newer release:
    without --prune it stays, and does not affect the exit status.
    """
    found, left = list[dict[str, Any]](), 0
    for difference in actions.apply(load_operator(TopologySettings), prune=prune):
        print_line(line(difference))
        found.append(document(difference))
        left += difference.remedy is not None and not difference.is_harmless
        report(changes=found, left=left)
    if not found:
        report(changes=[], left=0)
        click.echo("topology: nothing to change")
    if left:
        ctx.exit(DRIFT)


@topology.command(epilog="Example: orderctl topology scale inventory 4")
@changes(details=("parts",))
@documented("service", "parts", "previous_parts", "changes")
@click.argument("service", type=click.Choice(DIVISIBLE))
@click.argument("parts", type=click.IntRange(1, PARTS_LIMIT))
def scale(service: str, parts: int) -> None:
    """Change the number of parts of SERVICE's queue to PARTS while orders are processed.

    Orders are accepted in the meantime: their events wait in the outboxes until the current parts
    are empty, at least seven seconds. Each part requires a worker: start those of new parts
    immediately, and stop those of removed parts afterwards. If a step fails, the previous parts are
    restored.
    """
    made = list[dict[str, Any]]()

    def changed(difference: Difference) -> None:
        print_line(line(difference))
        made.append(document(difference))

    report(service=service, parts=parts, changes=made)
    before = change(
        load_operator(ScaleSettings), find(service), parts, begun=click.echo, changed=changed
    )
    report(previous_parts=before)
    click.echo(f"{service}: {parts} parts, previously {before}")
    click.echo(f"set {service}={parts} in PARTS")


def line(found: Difference) -> str:
    """Return the outcome of a difference, in one line."""
    obvious = found.outcome in ("created", "removed")
    return f"{found.outcome} " + (f"{found.kind} {found.name}" if obvious else str(found))


def document(found: Difference) -> dict[str, str | None]:
    """Return the outcome of a difference as JSON."""
    return {"outcome": found.outcome, **_difference(found)}


def _difference(found: Difference) -> dict[str, str | None]:
    return {
        "kind": found.kind,
        "name": found.name,
        "problem": found.problem,
        "remedy": found.remedy,
    }


def _print(drift: Plan) -> None:
    for difference in drift.differences:
        print_line(difference)
    for name in drift.unmanaged:
        print_line(f"{name}: unmanaged")
    for text in drift.unchecked:
        print_line(f"unchecked: {text}")
    count = len(drift.differences)
    click.echo(f"topology: {count or 'no'} {'difference' if count == 1 else 'differences'}")


def _document(drift: Plan) -> dict[str, Any]:
    return {
        "drift": bool(drift.differences),
        "differences": [_difference(each) for each in drift.differences],
        "unmanaged": list(drift.unmanaged),
        "unchecked": list(drift.unchecked),
    }
