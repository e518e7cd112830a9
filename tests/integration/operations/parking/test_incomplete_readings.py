"""Redrive plans of messages that another reader holds, or that are not found.

There are no workers: events are recorded as handled.
"""

import json
from typing import Any
from uuid import uuid4

import pytest
from amqp import Channel

from console.broker.parking_lot import ParkingLot
from console.parking.redrive import plans, preparation, stage
from console.parking.redrive import run as runs
from testkit.data.parked import drained, held, park
from testkit.data.redrives import discard, handle, park_event, planned, run, shown
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


def redriven(channel: Channel) -> list[str]:
    return [message.headers["id"] for message in drained(channel, "inventory.queue")]


def test_messages_that_another_reader_holds_stay_planned(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a plan whose messages another reader holds
    monkeypatch.setattr(stage, "SEARCH_LIMIT", 0.0)
    ids = [park_event(channel) for _ in range(3)]
    plan = str(planned(env)["id"])
    with held(channel, 3):
        # When the plan runs, and another one is made
        output = run(env, "run", plan, status=1)
        another = run(env, "plan", "inventory", status=1)

    # Then it stops and can run again, and a plan without these messages is not made
    assert "1 not found: another command reads the parking lot" in output
    assert f"run again: {ids[0]}\n" in output
    assert (shown(env, plan)["state"], shown(env, plan)["states"]) == ("ready", {"planned": 3})
    assert "no plan was made, because" in another
    assert redriven(channel) == []

    # When the messages are released, and the plan runs again
    handle(settings, *ids)
    output = run(env, "run", plan)

    # Then all are redriven
    assert f"plan {plan}: done; 3 handled" in output
    assert sorted(redriven(channel)) == sorted(ids)


def test_a_restored_message_is_not_gone(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a planned message that was discarded and restored, and which another reader holds
    monkeypatch.setattr(stage, "SEARCH_LIMIT", 0.0)
    event_id = park_event(channel)
    plan = str(planned(env)["id"])
    discard(env, event_id)
    (entry,) = json.loads(run(env, "discarded", "--json"))
    run(env, "restore", str(entry["id"]))
    with held(channel, 1):
        # When the plan runs
        output = run(env, "run", plan, status=1)

    # Then the message is not found, and stays planned
    assert "1 not found" in output
    assert shown(env, plan)["states"] == {"planned": 1}


def test_a_run_waits_for_another_reader(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a plan whose messages another reader holds until the run has searched once
    ids = [park_event(channel) for _ in range(3)]
    plan = str(planned(env)["id"])
    handle(settings, *ids)
    search, searches = stage.Stage._search, list[bool]()
    with held(channel, 3) as release:

        def then_release(*arguments: Any) -> bool:
            searches.append(search(*arguments))
            release()
            return searches[-1]

        monkeypatch.setattr(stage.Stage, "_search", then_release)

        # When the plan runs
        output = run(env, "run", plan)

    # Then it searches again, and redrives all messages
    assert searches[:2] == [True, False]
    assert f"plan {plan}: done; 3 handled" in output
    assert redriven(channel) == ids


def test_a_message_that_is_never_found_does_not_block_the_others(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given a plan, the first message of which is deleted, and is not discarded
    ids = [park_event(channel) for _ in range(3)]
    plan = str(planned(env)["id"])
    assert channel.basic_get("inventory.dlq", no_ack=True).headers["id"] == ids[0]
    handle(settings, *ids[1:])

    # When the plan runs twice
    for _ in range(2):
        output = run(env, "run", plan, status=1)

        # Then it names the message, and is not done
        assert "1 not found: another command reads the parking lot, or has taken them" in output
        assert f"run again: {ids[0]}\n" in output
        assert shown(env, plan)["state"] == "ready"

    # And the others are redriven
    assert redriven(channel) == ids[1:]
    assert shown(env, plan)["states"] == {"handled": 2, "planned": 1}


@pytest.mark.parametrize("end", ["pause", "failure"])
def test_a_message_that_is_discarded_while_a_run_is_interrupted_is_gone(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    # Given a run that ends between two messages of a stage
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    monkeypatch.setattr(runs, "_INTERRUPTION_POLL", 0.0)
    ids = [park_event(channel) for _ in range(3)]
    plan = planned(env)["id"]
    handle(settings, *ids[:2])
    put_back, calls = ParkingLot.put_back, iter(range(3))

    def then_end(*arguments: Any, **options: Any) -> bool:
        call = next(calls)
        if call == 2:
            raise ConnectionError("lost")
        done = put_back(*arguments, **options)
        if call == 1 and end == "pause":
            plans.pause(settings, plan)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(ParkingLot, "put_back", then_end)
        run(env, "run", str(plan), status=1)
    assert redriven(channel) == ids[:2]

    # When the message that was not redriven is discarded, and the plan continues
    discard(env, ids[2])
    output = run(env, "resume" if end == "pause" else "run", str(plan))

    # Then it ends without that message
    assert f"plan {plan}: done; 1 gone, 2 handled" in output


@pytest.mark.parametrize("batch", [1, 500])
def test_a_message_that_can_be_redriven_is_preferred(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    # Given messages with the id of an event, one of which is the event
    monkeypatch.setattr(preparation, "BATCH", batch)
    event_id = str(uuid4())
    park(channel, event_id, type="order.created")
    park(channel, event_id, event={"id": event_id, "subject": "real"}, type="order.created")
    park(channel, event_id, event={"subject": "no event"}, type="order.created")

    # When they are planned
    plan = planned(env)

    # Then the event is planned
    (message,) = plan["messages"]
    assert (message["order_id"], message["effect"], message["state"]) == (
        "real",
        "handle",
        "planned",
    )
