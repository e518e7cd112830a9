"""`orderctl pause`, `resume` and `paused` on real databases, and the pause in `orderctl health`."""

import json
from typing import Any

import pytest

from common.kombu_topology import CONSUMERS, SERVICES
from console.commands.operator import operator_name
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.servers.vhosts import Vhost


def run(env: dict[str, str], *arguments: str, status: int = 0) -> str:
    result = orderctl(env, *arguments)
    assert result.exit_code == status, result.output
    return result.stdout


def paused(env: dict[str, str]) -> dict[str, Any]:
    listed = json.loads(run(env, "paused", "--json"))
    assert listed["unknown"] == {}
    return {pause["service"]: pause for pause in listed["paused"]}


def test_a_pause_is_listed_until_the_service_is_resumed(env: dict[str, str]) -> None:
    # Given a system without pauses
    assert run(env, "paused") == "no service is paused\n"

    # When an operator pauses a service
    assert run(env, "pause", "fraud", "--reason", " judges wrongly ") == "fraud: paused\n"

    # Then it is listed with its operator, time and reason
    pause = paused(env)["fraud"]
    assert (pause["by"], pause["reason"]) == (operator_name(), "judges wrongly")
    assert 0 <= pause["seconds"] < 60
    assert "judges wrongly" in run(env, "paused")

    # And it ends with the resumption
    assert "fraud: resumed; was paused by" in run(env, "resume", "fraud")
    assert paused(env) == {}


def test_repeated_commands_change_nothing(env: dict[str, str]) -> None:
    # Given a paused service
    run(env, "pause", "order", "--reason", "the first reason")

    # When it is paused again
    again = run(env, "pause", "order", "--reason", "another reason")

    # Then the first reason remains, and the first resumption ends the pause
    assert "order: already paused by" in again
    assert paused(env)["order"]["reason"] == "the first reason"
    run(env, "resume", "order")
    assert run(env, "resume", "order") == "order: not paused\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "order"),
        ("pause", "order", "--reason", " "),
        ("pause", "order", "--reason", "x" * 501),
        ("pause", "analytics", "--reason", "it has no queue"),
        ("resume", "unknown"),
    ],
    ids=["no reason", "an empty reason", "a long reason", "no consumer", "an unknown service"],
)
def test_invalid_arguments_are_rejected(env: dict[str, str], arguments: tuple[str, ...]) -> None:
    run(env, *arguments, status=64)

    assert paused(env) == {}


def test_addresses_in_a_reason_are_masked(env: dict[str, str]) -> None:
    run(env, "pause", "order", "--reason", "ada@example.com complained")

    assert paused(env)["order"]["reason"] == "*** complained"


def test_pauses_are_recorded_in_the_audit_log(env: dict[str, str]) -> None:
    run(env, "pause", "inventory", "--reason", "counting")
    run(env, "resume", "inventory")

    lines = json.loads(run(env, "audit", "--json"))
    recorded = {(x["action"], x["service"], x["outcome"]) for x in lines}
    assert {
        ("pause", "inventory", "done"),
        ("resume", "inventory", "done"),
    } <= recorded
    assert any(line["detail"] == "reason: counting" for line in lines)


def test_a_database_that_does_not_respond_is_reported(env: dict[str, str]) -> None:
    result = orderctl(env | {"DATABASE_PORT": "1"}, "paused")

    assert result.exit_code == 1
    assert all(f"{s.name}: unknown: PostgreSQL: " in result.stderr for s in CONSUMERS)


def test_health_lists_a_pause_before_the_consumer_is_gone(
    env: dict[str, str], vhost: Vhost
) -> None:
    # Given a broker on which every queue has a consumer
    ticks = [service.tick_queue(tick) for service in SERVICES for tick in service.ticks]
    with vhost.connect() as connection:
        for queue in [s.queue for s in CONSUMERS] + ticks:
            connection.default_channel.basic_consume(queue)
        eventually(lambda: run(env, "health"))

        # When a service is paused, and its worker still finishes a batch
        run(env, "pause", "fraud", "--reason", "a test")

        # Then the pause is listed at once
        assert "fraud: paused by" in run(env, "health")
        # And a database that does not respond is unknown, and not a problem of the broker
        result = orderctl(env | {"DATABASE_PORT": "1"}, "health", "--json")
        assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["paused"] == []
    assert set(document["unknown_pauses"]) == {service.name for service in CONSUMERS}


def test_a_paused_service_without_a_consumer_is_healthy(env: dict[str, str], vhost: Vhost) -> None:
    # Given a broker on which only the queue of one service has no consumer
    ticks = [service.tick_queue(tick) for service in SERVICES for tick in service.ticks]
    with vhost.connect() as connection:
        for queue in [s.queue for s in CONSUMERS if s.name != "fraud"] + ticks:
            connection.default_channel.basic_consume(queue)

        def one_finding() -> None:
            findings = json.loads(orderctl(env, "health", "--json").stdout)["findings"]
            assert [(f["kind"], f["name"]) for f in findings] == [("no_consumer", "fraud.queue")]

        eventually(one_finding)

        # When the service is paused
        run(env, "pause", "fraud", "--reason", "a test")

        # Then the broker is healthy, and the pause is listed
        assert "fraud: paused by" in run(env, "health")
        document = json.loads(run(env, "health", "--json"))
    assert document["healthy"] is True
    assert [(p["service"], p["reason"]) for p in document["paused"]] == [("fraud", "a test")]
