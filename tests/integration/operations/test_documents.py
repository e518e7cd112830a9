"""The JSON documents of commands that change something, on a real broker and databases."""

import json
from typing import Any
from uuid import uuid4

import pytest
from amqp import Channel

from console.commands.operator import operator_name
from console.parking.redrive import stage
from testkit.data.redrives import handle, park_event, planned
from testkit.processes.orderctl import orderctl
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


def document(env: Environment, *arguments: str, status: int = 0) -> dict[str, Any]:
    """Run a command with `--json`, check its exit status, and return its other fields."""
    result = orderctl(env, *arguments, "--json")
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert found.pop("exit_status") == status
    assert arguments[: len(found["command"].split())] == tuple(found.pop("command").split())
    assert bool(found["error"]) == bool(status)
    return found


def test_the_document_of_a_run_has_its_plan_and_stages(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a plan, and no worker
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    ids = [park_event(channel) for _ in range(2)]
    plan = str(planned(env)["id"])

    # When it is run, and stops
    stopped = document(env, "parked", "run", plan, status=1)

    # Then the document has the outcome of the stage, and the reason
    assert stopped["stages"] == [{"size": 1, "outcomes": {"unknown": 1}}]
    assert (stopped["plan"]["state"], stopped["plan"]["states"]) == (
        "ready",
        {"planned": 1, "sent": 1},
    )
    assert stopped["error"].startswith(f"plan {plan} stopped: 1 of 1 neither handled nor parked")
    assert stopped["plan"]["reason"] in stopped["error"]

    # When its messages are handled, and it is run again
    handle(settings, *ids)
    done = document(env, "parked", "run", plan)

    # Then the document has the end
    assert done["stages"] == [{"size": 1, "outcomes": {"handled": 1}}]
    assert (done["plan"]["state"], done["plan"]["states"]) == ("done", {"handled": 2})
    # And a plan that does not exist is an error
    unknown = document(env, "parked", "run", "99", status=1)
    assert (unknown["plan"], unknown["stages"]) == (None, [])
    assert "plan 99 does not exist" in unknown["error"]


def test_the_documents_of_pauses_name_the_pause(env: Environment) -> None:
    first = document(env, "pause", "fraud", "--reason", " wrong ")
    second = document(env, "pause", "fraud", "--reason", "again")
    ended = document(env, "resume", "fraud")

    assert first == {"error": None, "service": "fraud", "reason": "wrong", "earlier": None}
    earlier = second["earlier"]
    assert (earlier["by"], earlier["reason"]) == (operator_name(), "wrong")
    assert ended["ended"]["reason"] == "wrong"
    assert document(env, "resume", "fraud")["ended"] is None


def test_the_documents_of_parked_messages_name_the_messages(
    channel: Channel, env: Environment
) -> None:
    # Given a parked message
    event_id = park_event(channel)

    # When it is discarded, restored and redriven
    (discarded,) = json.loads(
        orderctl(
            env,
            *("parked", "discard", "inventory", "--id", event_id),
            *("--reason", "a test", "--yes", "--json"),
        ).stdout
    )
    number = discarded["discarded_id"]
    restored = document(env, "parked", "restore", str(number))
    redriven = document(env, "parked", "redrive", "inventory", "--id", event_id)

    # Then each document names it
    entry = {"number": number, "service": "inventory", "event_id": event_id}
    assert restored == {"error": None, "restored": [entry]}
    assert redriven == {
        "error": None,
        "service": "inventory",
        "queue": "inventory.queue",
        "redriven": 1,
    }
    # And a failure keeps what was done before it
    failed = document(env, "parked", "restore", str(number), status=1)
    assert failed["restored"] == []
    assert "does not exist" in failed["error"]


def test_the_documents_of_secrets_and_stock_have_named_values(env: Environment) -> None:
    key = document(env, "keys", "create", "web shop", "--scope", "orders:write")
    revoked = document(env, "keys", "revoke", "00000000", status=1)
    ada = document(env, "people", "add", "ada", "--role", "viewer")
    goods = document(env, "stock", "receive", "TEA", "20", "--reference", "DN-1")
    again = document(env, "stock", "receive", "TEA", "20", "--reference", "DN-1")
    checked = document(env, "stock", "check")
    cancelled = document(env, "orders", "cancel", str(uuid4()), "--reason", "a test", status=1)

    assert (key["name"], key["scopes"], key["file"]) == ("web shop", ["orders:write"], None)
    assert revoked["key"] is None
    assert (ada["name"], ada["role"], ada["services"]) == ("ada", "viewer", None)
    assert ada["password"]
    assert goods["level"] == {"sku": "TEA", "on_hand": 20, "reserved": 0, "available": 20}
    assert (goods["is_new"], again["is_new"], again["level"]) == (True, False, goods["level"])
    assert checked["differences"] == []
    assert cancelled["status"] is None
