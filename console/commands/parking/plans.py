"""`orderctl parked plan`, `run` and `plans`: staged redrives of selected messages."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import click

from console.actions.parked import CONSUMERS
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.operator import operator_name
from console.commands.parking.parked import SERVICE, parked, progress
from console.commands.table import print_table, printable
from console.commands.times import Age
from console.errors import ActionError
from console.models import ItemRow, PlanState
from console.parking.criteria import Criteria
from console.parking.redrive import plans
from console.parking.redrive.plans import Plan
from console.parking.redrive.preparation import prepare
from console.parking.redrive.run import (
    DEFAULT_MAX_FAILING,
    DEFAULT_RATE,
    HIGHEST_RATE,
    LOWEST_RATE,
    run,
)
from console.parking.redrive.stage import Outcome
from console.settings import DatabaseSettings, RepairSettings, load_operator

#: Maximum number of messages of a plan that are listed; `--json` contains all.
ITEMS_LISTED = 1_000


def _repeated(option: str, name: str, help_: str) -> Callable[[Any], Any]:
    return click.option(option, name, multiple=True, help=f"{help_}; can be repeated.")


_plan_id = click.argument("plan_id", metavar="PLAN", type=click.IntRange(1))
_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_rate = click.option(
    "--rate",
    type=click.FloatRange(LOWEST_RATE, HIGHEST_RATE),
    default=DEFAULT_RATE,
    show_default=True,
    help="Maximum messages per second.",
)
_documented_run = documented("plan", "stages")
_max_failing = click.option(
    "--max-failing",
    type=click.FloatRange(0, 100),
    default=DEFAULT_MAX_FAILING * 100,
    show_default=True,
    help="Percentage of a stage that may fail again.",
)


@parked.command("plan", epilog="Example: orderctl parked plan inventory --exception KeyError")
@changes(subject="event_ids", details=("types", "failures", "frames"))
@click.argument("service", type=SERVICE)
@_repeated("--type", "types", "Event type")
@_repeated("--exception", "failures", "Failure, as groups shows it")
@_repeated("--frame", "frames", "Function, as groups shows it")
@_repeated("--id", "event_ids", "Event")
@click.option("--older-than", type=Age(), help="Minimum time since the last failure: 2h, 3d.")
@_as_json
def make_plan(service: str, *, as_json: bool, **criteria: Any) -> None:
    """Choose parked messages and store them as a plan, with the effect of each redrive.

    Messages must meet all criteria; without any, all messages are chosen. All stay in place. If the
    command is interrupted, the plan fails.
    """
    settings = load_operator(RepairSettings)
    chosen, by = Criteria(**criteria), operator_name()
    with progress("Reading the parking lot") as update:
        plan = prepare(settings, CONSUMERS[service], chosen, created_by=by, progress=update)
    if as_json:
        _print_json(settings, plan)
        return
    click.echo(f"plan {plan.id}: {sum(plan.effects.values())} messages of {service}")
    for effect, count in plan.effects.items():
        click.echo(f"  {effect}: {count}")
    click.echo(f"run it with: orderctl parked run {plan.id}")


@parked.command("run", epilog="Example: orderctl parked run 7 --rate 20")
@changes(subject="plan_id", details=("rate",))
@_documented_run
@_plan_id
@_rate
@_max_failing
def run_plan(plan_id: int, rate: float, max_failing: float) -> None:
    """Redrive the messages of a plan: 1, then 5, then 50, then at a limited rate.

    After each stage, the outcomes are awaited. A redriven message has one attempt. The run stops if
    too many messages of a stage fail again; running the plan again continues it.
    """
    _run(load_operator(RepairSettings), plan_id, rate, max_failing)


@parked.command(epilog="Example: orderctl parked pause 7")
@changes(subject="plan_id")
@documented("plan")
@_plan_id
def pause(plan_id: int) -> None:
    """End the run of a plan within a second; resume continues it."""
    report(plan=_document(plans.pause(load_operator(DatabaseSettings), plan_id)))
    click.echo(f"plan {plan_id}: paused")


@parked.command(epilog="Example: orderctl parked resume 7")
@changes(subject="plan_id", details=("rate",))
@_documented_run
@_plan_id
@_rate
@_max_failing
def resume(plan_id: int, rate: float, max_failing: float) -> None:
    """Continue a paused plan, as run does."""
    settings = load_operator(RepairSettings)
    plans.resume(settings, plan_id)
    _run(settings, plan_id, rate, max_failing)


@parked.command(epilog="Example: orderctl parked abort 7")
@changes(subject="plan_id")
@documented("plan")
@_plan_id
def abort(plan_id: int) -> None:
    """End a plan; messages that were not redriven stay parked."""
    report(plan=_document(plans.abort(load_operator(DatabaseSettings), plan_id)))
    click.echo(f"plan {plan_id}: aborted")


@parked.command("plans", epilog="Example: orderctl parked plans 7")
@shows
@click.argument("plan_id", metavar="[PLAN]", type=click.IntRange(1), required=False)
@_as_json
def show_plans(plan_id: int | None, *, as_json: bool) -> None:
    """List the newest plans or, with a number, the messages of one plan."""
    settings = load_operator(DatabaseSettings)
    if plan_id is not None:
        plan = plans.show(settings, plan_id)
        if as_json:
            _print_json(settings, plan)
        else:
            _print_plans([plan])
            _print_items(plans.items(settings, plan_id, limit=ITEMS_LISTED))
        return
    found = plans.newest(settings)
    if as_json:
        click.echo(json.dumps(list(map(_document, found)), indent=2))
    elif found:
        _print_plans(found)
    else:
        click.echo("no plans")


def _run(settings: RepairSettings, plan_id: int, rate: float, max_failing: float) -> None:
    stages = list[dict[str, Any]]()
    report(stages=stages)

    def ended(outcome: Outcome) -> None:
        stages.append({"size": outcome.size, "outcomes": _outcomes(outcome)})
        click.echo(printable(f"stage of {outcome.size}: {_counts(_outcomes(outcome))}"))

    try:
        plan = run(
            settings,
            plan_id,
            run_by=operator_name(),
            rate=rate,
            max_failing=max_failing / 100,
            report=ended,
        )
    except ActionError:
        # The plan contains the reason why the run stopped. If no such plan exists, the error says
        # so.
        with suppress(ActionError):
            report(plan=_document(plans.show(settings, plan_id)))
        raise
    report(plan=_document(plan))
    click.echo(f"plan {plan.id}: {plan.state}; {_counts(plan.states)}")
    if plan.state is not PlanState.DONE:
        raise SystemExit(1)


def _outcomes(outcome: Outcome) -> dict[str, int]:
    counts = {str(state): count for state, count in outcome.counts.items()}
    if outcome.unknown:
        counts["unknown"] = len(outcome.unknown)
    if outcome.missing:
        counts["not found"] = len(outcome.missing)
    return counts


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _print_plans(found: list[Plan]) -> None:
    columns = ("Plan", "Service", "State", "Messages", "Made", "By", "Reason")
    rows = (
        (
            plan.id,
            plan.service,
            plan.state,
            _counts(plan.states),
            plan.created_at.strftime("%Y-%m-%d %H:%M"),
            plan.created_by,
            plan.reason,
        )
        for plan in found
    )
    print_table(columns, rows)


def _print_items(items: list[ItemRow]) -> None:
    columns = ("Event", "Type", "Order", "Effect", "State", "Note")
    rows = ((i.event_id, i.type, i.order_id, i.effect, i.state, i.note) for i in items)
    print_table(columns, rows)


def _print_json(settings: DatabaseSettings, plan: Plan) -> None:
    columns = ("event_id", "type", "order_id", "effect", "state", "note")
    rows = plans.items(settings, plan.id)
    messages = [{column: getattr(row, column) for column in columns} for row in rows]
    click.echo(json.dumps(_document(plan) | {"messages": messages}, indent=2))


def _document(plan: Plan) -> dict[str, Any]:
    return dataclasses.asdict(plan) | {"created_at": plan.created_at.isoformat()}
