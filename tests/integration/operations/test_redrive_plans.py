"""`orderctl parked plan`, `run` and others on a real broker and databases, without workers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from amqp import Channel
from sqlalchemy import create_engine, pool, text

from common.kombu_topology import CONSOLE, ORDER
from console.databases.service_database import transaction
from console.parking.redrive import stage
from console.parking.redrive.lease import lease
from eventbus.database import migrations
from order_app.storage.models import OrderRow
from testkit.data.parked import drained, park, parked
from testkit.data.redrives import discard, handle, park_event, planned, run
from testkit.servers.databases import TestDatabase
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


def cancelled_order(settings: OperatorSettings) -> UUID:
    """Store a cancelled order, and return its id."""
    now, order_id = datetime.now(UTC), uuid4()
    with transaction(settings, ORDER) as session:
        session.add(
            OrderRow(
                id=order_id,
                customer_email="ada@example.com",
                currency="EUR",
                status="CANCELLED",
                reason="deadline",
                total=1000,
                created_at=now,
                decided_at=now,
                deadline_at=now,
                sequence=2,
                lines=[],
            )
        )
    return order_id


def test_a_plan_lists_the_effect_of_each_redrive(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given parked messages that were handled, are too old, are no events, or of decided orders
    ids = {"handle": park_event(channel), "already handled": park_event(channel)}
    handle(settings, ids["already handled"])
    old = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    ids["too old"] = park_event(channel, time=old)
    ids["order already decided"] = park_event(channel, cancelled_order(settings))
    park(channel, "no-event")
    ids["not an event"] = "no-event"

    # When they are planned
    plan = planned(env)

    # Then each has its effect, those with an effect come first, and all stay in place
    effects = {message["effect"]: message["event_id"] for message in plan["messages"]}
    assert effects == ids
    assert list(effects) == [
        *("handle", "order already decided", "already handled", "too old", "not an event"),
    ]
    assert plan["states"] == {"planned": 3, "skipped": 2}
    assert len(parked(env)) == 5


def test_messages_are_chosen_by_all_criteria(channel: Channel, env: Environment) -> None:
    # Given messages with different causes
    frame = "inventory_worker/reservations.py:lock_stock"
    ids = [park_event(channel, exception="KeyError", frame=frame) for _ in range(3)]
    park_event(channel, exception="KeyError")
    park_event(channel, frame=frame)

    # When they are planned by two criteria, and by an id as well
    plan = planned(env, "--exception", "KeyError", "--frame", frame)
    one = planned(env, "--exception", "KeyError", "--frame", frame, "--id", ids[1])
    young = run(env, "plan", "inventory", "--older-than", "2h", status=1)

    # Then only the messages that meet all of them are planned
    assert [message["event_id"] for message in plan["messages"]] == ids
    assert [message["event_id"] for message in one["messages"]] == [ids[1]]
    assert "no parked message of inventory meets the criteria" in young
    assert "'soon' is not an age such as 30m" in run(
        env, "plan", "inventory", "--older-than", "soon", status=64
    )


def test_a_plan_is_frozen(channel: Channel, env: Environment) -> None:
    # Given a plan, and a message that is parked later
    first = park_event(channel)
    plan = planned(env)
    later = park_event(channel)

    # When a message of the plan is discarded, and the plan runs
    discard(env, first)
    output = run(env, "run", str(plan["id"]))

    # Then the plan contains neither more nor other messages
    assert "1 gone" in output
    assert [message["id"] for message in parked(env)] == [later]
    assert drained(channel, "inventory.queue") == []


def test_a_message_without_an_outcome_stops_the_run(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given ten parked messages, and no worker
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    ids = [park_event(channel) for _ in range(10)]
    plan = str(planned(env)["id"])

    # When the plan runs
    output = run(env, "run", plan, status=1)

    # Then one message was redriven, with its last attempt, and the plan can run again
    (message,) = drained(channel, "inventory.queue")
    assert message.headers["id"] == ids[0]
    assert message.headers["retries"] == len(settings.retry_tiers)
    assert "1 of 1 neither handled nor parked" in output
    assert f"is the worker running? {ids[0]}\n" in output
    assert [m["id"] for m in parked(env)] == ids[1:]

    # When the message was handled, and the plan runs again
    handle(settings, ids[0])
    run(env, "run", plan, status=1)

    # Then the next message is redriven
    assert [m.headers["id"] for m in drained(channel, "inventory.queue")] == [ids[1]]


def test_a_paused_plan_runs_after_it_is_resumed(channel: Channel, env: Environment) -> None:
    # Given a paused plan of a message that is gone
    event_id = park_event(channel)
    plan = str(planned(env)["id"])
    discard(env, event_id)
    run(env, "pause", plan)

    # Then it does not run before it is resumed
    assert f"plan {plan} is paused; see: orderctl parked resume" in run(env, "run", plan, status=1)
    assert f"plan {plan}: done" in run(env, "resume", plan)
    assert f"plan {plan} is done" in run(env, "abort", plan, status=1)


def test_an_aborted_plan_never_runs_again(channel: Channel, env: Environment) -> None:
    # Given an aborted plan
    event_id = park_event(channel)
    plan = str(planned(env)["id"])
    run(env, "abort", plan)

    # Then it is listed, and cannot run
    assert "aborted" in run(env, "plans")
    assert event_id in run(env, "plans", plan)
    assert f"plan {plan} is aborted" in run(env, "run", plan, status=1)
    assert f"plan {plan} is aborted" in run(env, "resume", plan, status=1)
    assert [message["id"] for message in parked(env)] == [event_id]


def test_a_second_run_for_a_service_is_refused(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given a run for the service
    event_id = park_event(channel)
    plan = str(planned(env)["id"])
    with lease(settings, "inventory"):
        # When a second one starts
        output = run(env, "run", plan, status=1)
        planned_now = run(env, "plan", "inventory", status=1)

    # Then it is refused, as is a new plan, and nothing was redriven
    assert "another command plans or redrives messages of inventory: wait" in output
    assert "another command plans or redrives messages of inventory: wait" in planned_now
    assert [message["id"] for message in parked(env)] == [event_id]
    with lease(settings, "inventory"), lease(settings, "order"):
        pass


def test_an_unknown_plan_is_named(env: Environment) -> None:
    assert "plan 99 does not exist" in run(env, "run", "99", status=1)
    assert run(env, "plans") == "no plans\n"


def test_the_tables_are_those_of_the_models(
    database_of: Callable[[str], TestDatabase],
) -> None:
    database = database_of("console")

    assert migrations.check(CONSOLE, database.url) == []
    engine = create_engine(database.url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM redrive_plans")) == 0
