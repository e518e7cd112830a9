"""The pages of redrive plans: a plan is made from a group, run, paused and aborted."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from flask import abort, current_app, render_template, request, url_for
from werkzeug.wrappers import Response

from console.errors import ActionError
from console.models import ItemState, PlanState
from console.parking.criteria import Criteria
from console.parking.effects import Effect
from console.parking.redrive import plans
from console.parking.redrive.plans import Plan
from console.parking.redrive.run import DEFAULT_MAX_FAILING, DEFAULT_RATE, HIGHEST_RATE, LOWEST_RATE
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.action import Done, act
from console.web.parked import consumer_of, parked
from console.web.parking.runs import Runs
from eventbus.telemetry.privacy import masked

#: Maximum number of messages of a plan that its page lists.
LISTED = 100

#: The states of messages, in the order of their bars.
_PROGRESS = (
    *(ItemState.HANDLED, ItemState.PARKED, ItemState.WAITING, ItemState.SENT, ItemState.PLANNED),
    *(ItemState.GONE, ItemState.SKIPPED),
)

#: The fields of a plan's criteria, as in a form.
_FIELDS = ("type", "failure", "frame")


@parked.get("/parked/<service>/plan")
def confirm_plan(service: str) -> str:
    """Show the criteria of a plan before it is made."""
    consumer = consumer_of(service)
    criteria = {name: request.args.get(name, "") for name in _FIELDS}
    return render_template("plan_new.html", service=consumer, criteria=criteria)


@parked.post("/parked/<service>/plan")
def make_plan(service: str) -> Response:
    """Start the preparation of a plan of the messages that meet the criteria, and show the plan."""
    chosen = {name: tuple(filter(None, [request.form.get(name, "")])) for name in _FIELDS}
    criteria = Criteria(types=chosen["type"], failures=chosen["failure"], frames=chosen["frame"])
    consumer, by = consumer_of(service), login.person().name

    def prepare() -> Done:
        plan_id = _runs().prepare(consumer, criteria, created_by=by)
        return Done(result=f"plan {plan_id} is being prepared", page=_page(service, plan_id))

    page = url_for("parked.show_groups", _anchor=service)
    return act("plan requested", prepare, subject=service, page=page, service=service)


@parked.get("/parked/<service>/plans/<int:plan_id>")
def show_plan(service: str, plan_id: int) -> str:
    """Show the effects, the progress and the messages of a plan."""
    plan = _plan(service, plan_id)
    total = sum(plan.states.values())
    items = plans.items(_settings(), plan.id, limit=LISTED) if total else []
    return render_template(
        "plan.html",
        plan=plan,
        # A failure may quote a customer's address.
        items=[(item, masked(item.note or "")) for item in items],
        total=total,
        bars=_bars(plan, total),
        redriven=sum(plan.effects.get(each, 0) for each in Effect if each.is_redriven),
        is_running=_runs().is_running(plan.id),
        again=_form(plan.criteria),
        problem=masked(plan.reason or _runs().problem(plan.id)),
        limit=LISTED,
        rate=DEFAULT_RATE,
        max_failing=DEFAULT_MAX_FAILING * 100,
        rates=(LOWEST_RATE, HIGHEST_RATE),
    )


@parked.post("/parked/<service>/plans/<int:plan_id>/run")
def run_plan(service: str, plan_id: int) -> Response:
    """Run a plan, or continue it, in the background."""
    rate = _number("rate", DEFAULT_RATE, LOWEST_RATE, HIGHEST_RATE)
    max_failing = _number("max_failing", DEFAULT_MAX_FAILING * 100, 0, 100)

    def start(plan: Plan) -> str:
        if plan.state is PlanState.PAUSED:
            plans.resume(_settings(), plan.id)
        by, share = login.person().name, max_failing / 100
        is_new = _runs().start(plan.id, run_by=by, rate=rate, max_failing=share)
        return "started" if is_new else "runs already"

    return _change(service, plan_id, start)


@parked.post("/parked/<service>/plans/<int:plan_id>/pause")
def pause_plan(service: str, plan_id: int) -> Response:
    """End the run of a plan within a second."""

    def pause(plan: Plan) -> str:
        plans.pause(_settings(), plan.id)
        return "paused"

    return _change(service, plan_id, pause)


@parked.post("/parked/<service>/plans/<int:plan_id>/abort")
def abort_plan(service: str, plan_id: int) -> Response:
    """End a plan or its preparation; messages that were not redriven stay parked."""

    def end(plan: Plan) -> str:
        plans.abort(_settings(), plan.id)
        return "aborted"

    return _change(service, plan_id, end)


def _change(service: str, plan_id: int, change: Callable[[Plan], str]) -> Response:
    return act(
        "plan changed",
        lambda: change(_plan(service, plan_id)),
        subject=f"plan {plan_id}",
        page=_page(service, plan_id),
        plan=plan_id,
    )


def _page(service: str, plan_id: int) -> str:
    return url_for("parked.show_plan", service=service, plan_id=plan_id)


def _plan(service: str, plan_id: int) -> Plan:
    """Return a plan of this service, because rights apply to the service in the address."""
    try:
        plan = plans.show(_settings(), plan_id)
    except ActionError as error:
        abort(404, str(error))
    if plan.service != consumer_of(service).name:
        abort(404, f"Plan {plan_id} is not of the service {service}.")
    return plan


def _form(criteria: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of the form that makes a plan with the same criteria.

    A plan of `orderctl` may have criteria that the form does not have: they are left empty.
    """
    stored = (criteria.get(f"{name}s", ()) for name in _FIELDS)
    return {
        name: values[0] for name, values in zip(_FIELDS, stored, strict=True) if len(values) == 1
    }


def _bars(plan: Plan, total: int) -> list[tuple[ItemState, int, float, float]]:
    """Return the progress as bars: the state, the number, and the place in percent."""
    bars, left = [], 0.0
    for state in _PROGRESS:
        number = plan.states.get(state, 0)
        if not number:
            continue
        width = 100 * number / total
        bars.append((state, number, left, width))
        left += width
    return bars


def _number(name: str, default: float, lowest: float, highest: float) -> float:
    text = request.form.get(name, "") or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest:
        abort(400, f"{name} must be a number from {lowest:g} to {highest:g}.")
    return value


def _settings() -> ConsoleSettings:
    settings: ConsoleSettings = current_app.extensions["settings"]
    return settings


def _runs() -> Runs:
    runs: Runs = current_app.extensions["runs"]
    return runs
