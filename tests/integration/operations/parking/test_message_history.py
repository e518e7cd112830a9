"""`orderctl parked history` on a real broker and databases, without workers."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from amqp import Channel
from sqlalchemy import insert

from common.kombu_topology import INVENTORY
from console.commands.operator import operator_name
from console.databases.service_database import transaction
from console.parking.redrive import stage
from eventbus.consumer.inbox import inbox
from testkit.data.parked import drained, park_created
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


def run(env: Environment, *arguments: str, status: int = 0) -> str:
    result = orderctl(env, "parked", *arguments)
    assert result.exit_code == status, result.output
    return result.output


def history(env: Environment, event_id: object) -> list[dict[str, Any]]:
    return list(json.loads(run(env, "history", "inventory", str(event_id), "--json")))


def test_the_history_of_a_message_has_each_step_with_time_and_person(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a message that was discarded, restored, and edited
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    event_id = park_created(channel)
    name = str(event_id)
    run(env, "discard", "inventory", "--id", name, "--yes", "--reason", "a mistake")
    number = json.loads(run(env, "discarded", "--json"))[0]["id"]
    run(env, "restore", str(number))
    address = 'data.customer_email="bob@example.com"'
    edited = ("--set", address, "--set", "data.total=200", "--reason", "wrong address", "--yes")
    run(env, "edit", "inventory", name, *edited)
    # And that was planned, redriven and handled
    plan = str(json.loads(run(env, "plan", "inventory", "--json"))["id"])
    run(env, "run", plan, status=1)
    assert len(drained(channel, "inventory.queue")) == 1
    row = {"event_id": event_id, "type": "order.created", "source": "order", "subject": uuid4()}
    with transaction(settings, INVENTORY) as session:
        row |= {"attempts": 6, "occurred_at": datetime.now(UTC)}
        session.execute(insert(inbox), row)
    run(env, "run", plan)

    # When its history is listed
    lines = history(env, event_id)
    table_of = run(env, "history", "inventory", name)

    # Then it has each step
    steps = [(line["what"], line["by"] is not None) for line in lines]
    assert sorted(steps) == sorted(
        [
            ("discarded", True),
            ("restored", True),
            ("edited", True),
            ("planned", True),
            ("redriven", True),
            ("handled", False),
            ("handled", False),
        ]
    )
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert {line["by"] for line in lines} == {operator_name(), None}
    by_step = {line["what"]: line for line in lines}
    assert by_step["discarded"]["text"] == "a mistake"
    assert by_step["redriven"]["text"] == f"plan {plan}"
    # And the edit has its difference, in the table without addresses
    values = {change["path"]: change["new"] for change in by_step["edited"]["edited"]}
    assert values == {"$.data.customer_email": '"bob@example.com"', "$.data.total": "200"}
    assert "wrong address; " in by_step["edited"]["text"]
    assert "$.data.total: 100 → 200" in table_of
    assert "@" not in table_of
    # And the versions before and after the edit differ
    assert by_step["edited"]["version"] == by_step["discarded"]["version"]
    assert by_step["redriven"]["version"] != by_step["edited"]["version"]
    assert f"now version {by_step['redriven']['version']}" in by_step["edited"]["text"]


def test_the_attempts_of_a_parked_message_are_in_its_history(
    channel: Channel, env: Environment
) -> None:
    # Given an event that is parked twice
    event_id = park_created(channel, release="r7")
    run(env, "edit", "inventory", str(event_id), "--set", "data.total=1", "--reason", "x", "--yes")

    # When its history is listed
    lines = history(env, event_id)

    # Then it has the attempt, with the failure and the release
    (attempt,) = [line for line in lines if line["what"] == "parked"]
    assert (attempt["text"], attempt["by"]) == ("attempt 1, ValueError: no\nway, release r7", None)
    eventually(lambda: _is_parked(env, str(event_id)))


def _is_parked(env: Environment, event_id: str) -> None:
    rows = json.loads(run(env, "list", "inventory", "--json"))
    assert [row["id"] for row in rows] == [event_id]


def test_a_message_that_is_gone_shows_the_plan_and_the_reason(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a plan whose message is gone
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    event_id = park_created(channel)
    plan = str(json.loads(run(env, "plan", "inventory", "--json"))["id"])
    run(env, "discard", "inventory", "--id", str(event_id), "--yes", "--reason", "a test")
    run(env, "run", plan)

    # Then its history says so
    (gone,) = [line for line in history(env, event_id) if line["what"] == "gone"]
    assert gone["text"] == f"plan {plan}: discarded"


def test_a_redrive_by_its_id_is_in_the_history(channel: Channel, env: Environment) -> None:
    # Given two messages, one of them redriven by its id
    event_id, other = park_created(channel), park_created(channel)
    run(env, "redrive", "inventory", "--id", str(event_id))

    # Then its history has the redrive, and that of the other does not
    (redriven,) = history(env, event_id)
    assert (redriven["what"], redriven["by"]) == ("redriven", operator_name())
    assert [line["what"] for line in history(env, other)] == ["parked"]


def test_a_redrive_without_the_database_is_reported(channel: Channel, applied: Environment) -> None:
    # Given no database of the console
    event_id = park_created(channel)

    # When a message is redriven
    result = orderctl(applied, "parked", "redrive", "inventory", "--id", str(event_id))

    # Then it is redriven, and the missing record is reported
    assert result.exit_code == 0, result.output
    assert len(drained(channel, "inventory.queue")) == 1
    assert "the history has no record of it: PostgreSQL: " in result.stderr


def test_an_unknown_message_has_no_history(env: Environment) -> None:
    assert history(env, "e-9") == []
    assert run(env, "history", "inventory", "e-9") == "nothing is known of this message\n"
