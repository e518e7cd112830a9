"""The preparation of a redrive plan: recorded first, then filled, and failed if interrupted."""

import json
from typing import Any

import pytest
from amqp import Channel
from sqlalchemy import func, select

from common.kombu_topology import CONSOLE, INVENTORY
from console.databases.service_database import transaction
from console.errors import ActionError
from console.models import ItemRow, PlanState
from console.parking.criteria import Criteria
from console.parking.redrive import plans, preparation
from console.parking.redrive.lease import lease
from console.parking.redrive.plans import Plan
from testkit.data.parked import parked
from testkit.data.redrives import park_event, planned, run
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


class Killed(BaseException):
    """The end of a process: nothing is stored after it, and its connections are closed."""


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "BATCH", 2)


@pytest.fixture
def ids(channel: Channel) -> list[str]:
    """The events of five parked messages."""
    return [park_event(channel) for _ in range(5)]


def prepare(settings: OperatorSettings, **options: Any) -> Plan:
    """Prepare a plan of all messages."""
    return preparation.prepare(settings, INVENTORY, Criteria(), created_by="ada", **options)


def interrupt(settings: OperatorSettings) -> int:
    """Prepare a plan in a process that is killed after the first batch; return its number."""
    numbers = list[int]()

    def die(_examined: int, _depth: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        prepare(settings, recorded=numbers.append, progress=die)
    return numbers[0]


def stored(settings: OperatorSettings, plan_id: int) -> int:
    """Return the number of stored messages of a plan."""
    with transaction(settings, CONSOLE) as session:
        rows = select(func.count()).where(ItemRow.plan_id == plan_id)
        return session.scalars(rows).one()


def test_a_plan_is_recorded_at_once_and_filled_with_progress(
    settings: OperatorSettings, ids: list[str]
) -> None:
    # When a plan is prepared, and is shown meanwhile
    shown = list[Plan]()
    made = prepare(
        settings,
        recorded=lambda number: shown.append(plans.show(settings, number)),
        progress=lambda *_: shown.append(plans.newest(settings)[0]),
    )

    # Then it is incomplete, with its progress, until it is ready
    assert [(plan.state, plan.examined, plan.depth) for plan in shown] == [
        (PlanState.INCOMPLETE, 0, None),
        *((PlanState.INCOMPLETE, number, 5) for number in (2, 4, 5)),
    ]
    assert {plan.id for plan in shown} == {made.id}
    assert (made.state, made.states) == (PlanState.READY, {"planned": len(ids)})


def test_a_plan_whose_preparation_was_killed_has_failed_and_never_runs(
    env: Environment, settings: OperatorSettings, ids: list[str]
) -> None:
    # Given a plan of which a part is stored, and whose process was killed
    plan_id = interrupt(settings)
    assert stored(settings, plan_id) == 2

    # Then it is listed as failed, and cannot run
    plan = plans.show(settings, plan_id)
    assert (plan.state, plan.reason) == (PlanState.FAILED, plans.INTERRUPTED)
    assert "failed" in run(env, "plans")
    assert f"plan {plan_id} is failed: its preparation has failed; make another plan" in run(
        env, "run", str(plan_id), status=1
    )
    assert [message["id"] for message in parked(env)] == ids
    # And its messages are deleted
    assert stored(settings, plan_id) == 0


def test_the_next_preparation_ends_an_interrupted_one(
    env: Environment, settings: OperatorSettings, ids: list[str]
) -> None:
    # Given an interrupted preparation, while another process uses the parking lot
    plan_id = interrupt(settings)
    with lease(settings, "inventory"):
        assert plans.show(settings, plan_id).state is PlanState.INCOMPLETE

    # When another plan is made
    made = planned(env)

    # Then the interrupted plan has failed, even while the parking lot is used
    with lease(settings, "inventory"):
        assert plans.show(settings, plan_id).state is PlanState.FAILED
    assert [message["event_id"] for message in made["messages"]] == ids


def test_an_aborted_preparation_ends_and_stays_aborted(
    settings: OperatorSettings, ids: list[str]
) -> None:
    # When a plan is aborted while it is prepared
    def abort(_examined: int, _depth: int) -> None:
        plans.abort(settings, plans.newest(settings)[0].id)

    with pytest.raises(ActionError, match=r"plan \d+ is aborted"):
        prepare(settings, progress=abort)

    # Then it contains no message
    (plan,) = plans.newest(settings)
    assert (plan.state, plan.states) == (PlanState.ABORTED, {})
    assert stored(settings, plan.id) == 0


def test_a_preparation_that_fails_keeps_its_reason(env: Environment, channel: Channel) -> None:
    # Given a message of another cause
    park_event(channel)

    # When a plan is made that no message meets
    error = run(env, "plan", "inventory", "--exception", "OSError", status=1)

    # Then the plan has failed, with the reason and the criteria
    (plan,) = json.loads(run(env, "plans", "--json"))
    assert "no parked message of inventory meets the criteria" in error
    assert plan["reason"] == "no parked message of inventory meets the criteria"
    assert (plan["state"], plan["criteria"]) == ("failed", {"failures": ["OSError"]})


def test_a_preparation_refuses_others_meanwhile(
    env: Environment, settings: OperatorSettings, ids: list[str]
) -> None:
    # When another plan is made, and the plan is run, during a preparation
    outputs = list[str]()

    def interfere(examined: int, _depth: int) -> None:
        if examined == 2:
            plan_id = str(plans.newest(settings)[0].id)
            outputs.append(run(env, "plan", "inventory", status=1))
            outputs.append(run(env, "run", plan_id, status=1))

    made = prepare(settings, progress=interfere)

    # Then both are refused, and neither is recorded
    for output in outputs:
        assert "another command plans or redrives messages of inventory: wait" in output
    assert [plan.id for plan in plans.newest(settings)] == [made.id]
    assert made.states == {"planned": len(ids)}
