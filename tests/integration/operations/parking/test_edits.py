"""`orderctl parked edit` on a real broker and databases, without workers."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from amqp import Channel, Message
from amqp.exceptions import MessageNacked

from common.kombu_topology import CONSOLE, INVENTORY
from console.broker.parking_lot import ParkingLot
from console.commands.operator import operator_name
from console.databases.service_database import transaction
from console.parking import journal
from console.parking.journal import Change, Entry
from eventbus.events import codec
from testkit.data.dropping import limit
from testkit.data.parked import drained, park, park_created, parked
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.servers.vhosts import Vhost
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]

TWO = ("--set", "data.lines[0].quantity=2", "--reason", "a typing error", "--yes")


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[bytes], str]:
    """A function that returns the name of a file with this content."""

    def create(content: bytes) -> str:
        file = tmp_path / "payload.json"
        file.write_bytes(content)
        return str(file)

    return create


def edit(env: Environment, event_id: object, *arguments: str, status: int = 0) -> str:
    result = orderctl(env, "parked", "edit", "inventory", str(event_id), *arguments)
    assert result.exit_code == status, result.output
    return result.output


def entries(settings: OperatorSettings, event_id: object) -> list[Entry]:
    with transaction(settings, CONSOLE) as session:
        return journal.of_message(session, "inventory", str(event_id))


def envelope(message: Message) -> dict[str, Any]:
    return dict(json.loads(message.body)[1]["event"])


def parked_envelopes(channel: Channel) -> list[dict[str, Any]]:
    """Remove the messages of the parking lot, at least one, and return their envelopes."""
    found = [envelope(message) for message in drained(channel, "inventory.dlq")]
    assert found
    return found


def test_an_edited_message_is_redriven_with_its_id_and_the_edit_is_recorded(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given two parked messages
    other, event_id = park_created(channel), park_created(channel)

    # When one is edited and redriven
    output = edit(env, event_id, *TWO, "--redrive")

    # Then the difference and the effect are shown
    assert "$.data.lines[0].quantity: 1 → 2" in output
    assert "effect of the redrive: handle" in output
    assert f"inventory: {event_id} edited and redriven to inventory.queue" in output
    # And the copy is the same event with the other payload, and nothing else
    (message,) = drained(channel, "inventory.queue")
    event = codec.read(message.body)
    assert (event.id, event.type, event.sequence) == (event_id, "order.created", 1)
    assert envelope(message)["data"]["lines"] == [{"sku": "TEA", "quantity": 2, "unit_price": 100}]
    headers = {k: v for k, v in message.headers.items() if k != "x-delivery-count"}
    attempts = len(settings.retry_tiers)
    assert headers == {"task": "order.created", "id": str(event_id), "retries": attempts}
    assert message.properties["message_id"] == str(event_id)
    # And the other message stays, and the journal has the edit
    assert [row["id"] for row in parked(env)] == [str(other)]
    (entry,) = entries(settings, event_id)
    assert (entry.change, entry.text) == (Change.EDITED, "a typing error")
    assert entry.recorded_by == operator_name()
    assert entry.details
    change = {"path": "$.data.lines[0].quantity", "old": "1", "new": "2"}
    assert (entry.details["changes"], entry.details["redriven"]) == ([change], True)


def test_an_edited_message_stays_parked_with_its_failure(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given a parked message, and another after it
    event_id = park_created(channel, frame="inventory_worker/reservations.py:lock_stock")
    (before,) = parked(env)
    other = park_created(channel)

    # When the message is edited
    output = edit(env, event_id, *TWO)

    # Then it is at the end of the parking lot, with the same failure
    assert f"inventory: {event_id} edited and parked again" in output
    rows = parked(env)
    assert [row["id"] for row in rows] == [str(other), str(event_id)]
    assert rows[1] == before | {"digest": rows[1]["digest"]}
    assert rows[1]["digest"] != before["digest"]
    assert drained(channel, "inventory.queue") == []
    # And it can be edited again
    assert "$.data.lines[0].quantity: 2 → 3" in edit(
        env, event_id, "--set", "data.lines[0].quantity=3", "--reason", "once more", "--yes"
    )
    assert [entry.text for entry in entries(settings, event_id)] == ["a typing error", "once more"]
    quantities = [e["data"]["lines"][0]["quantity"] for e in parked_envelopes(channel)]
    assert quantities == [1, 3]


def test_the_payload_is_printed_and_edited_in_a_file(
    channel: Channel, env: Environment, tmp_path: Path
) -> None:
    # Given the printed payload of a message, edited in a file
    event_id = park_created(channel)
    payload = json.loads(edit(env, event_id))
    payload["lines"].append({"sku": "KETTLE", "quantity": 1, "unit_price": 0})
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(payload))

    # When the message is edited by the file
    output = edit(env, event_id, "--file", str(file), "--reason", "a test", "--yes", "--redrive")

    # Then it has the payload of the file
    assert '$.data.lines[1].sku: (missing) → "KETTLE"' in output
    (message,) = drained(channel, "inventory.queue")
    assert envelope(message)["data"] == payload


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("data.lines[0].quantity=0", "Expected `int` >= 1 - at `$.data.lines[0].quantity`"),
        ('data.lines[0].quantity="2"', "Expected `int`, got `str` - at `$.data.lines[0].quantity`"),
        ("data.lines=[]", "Expected `array` of length >= 1 - at `$.data.lines`"),
        ("data=[]", "Expected `object`, got `array` - at `$.data`"),
        ("data.quantity=2", "order.created has no field $.data.quantity"),
        ("data.lines[0].colour=1", "order.created has no field $.data.lines[0].colour"),
        ("data.lines[7].quantity=2", "$.data.lines[7].quantity does not exist"),
        ("data.total=two", "$.data.total: the value is not JSON"),
        ("data.total=100", "the payload is unchanged"),
        ('data.currency="\\u0000"', "body contains NUL"),
        ('id="1"', "'id' is not the path of a value in the payload"),
        ('subject="1"', "'subject' is not the path of a value in the payload"),
        ("sequence=2", "'sequence' is not the path of a value in the payload"),
        ("$.time=2", "'$.time' is not the path of a value in the payload"),
    ],
)
def test_an_edit_that_violates_the_contract_changes_nothing(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    assignment: str,
    problem: str,
) -> None:
    # Given a parked message
    event_id = park_created(channel)

    # When an edit violates the contract of its type, or is not of its payload
    output = edit(
        env, event_id, "--set", assignment, "--reason", "a test", "--yes", "--redrive", status=1
    )

    # Then the error has the path, and nothing has changed
    assert problem in output
    assert [row["id"] for row in parked(env)] == [str(event_id)]
    assert drained(channel, "inventory.queue") == []
    assert entries(settings, event_id) == []


def test_an_edit_repairs_an_event_that_violates_the_contract(
    channel: Channel, env: Environment
) -> None:
    # Given an event without a required field
    invalid = {"data": {"customer_email": "ada@example.com", "currency": "EUR", "total": 100}}
    event_id = park_created(channel, event=invalid, exception="InvalidEvent")

    # When the field is added
    lines = '[{"sku": "TEA", "quantity": 1, "unit_price": 100}]'
    edit(env, event_id, "--set", f"data.lines={lines}", "--reason", "a test", "--yes", "--redrive")

    # Then the redriven event is valid
    (message,) = drained(channel, "inventory.queue")
    assert codec.read(message.body).id == event_id


def test_an_event_that_is_too_old_is_edited_but_not_redriven(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given an event that is too old
    old = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    event_id = park_created(channel, event={"time": old})

    # When its edited copy is to be redriven
    output = edit(env, event_id, *TWO, "--redrive", status=1)

    # Then it stays as it was
    assert f"{event_id} is older than PARKED_REDRIVE_DAYS (14)" in output
    assert "effect of the redrive: too old" in output
    assert entries(settings, event_id) == []
    # And it can be edited without the redrive
    edit(env, event_id, *TWO)
    (event,) = parked_envelopes(channel)
    assert event["data"]["lines"][0]["quantity"] == 2


@pytest.mark.parametrize("redrive", [[], ["--redrive"]], ids=["parked again", "redriven"])
def test_a_crash_before_the_original_is_removed_leaves_both(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
    redrive: list[str],
) -> None:
    # Given a connection that ends before the original is removed
    def fail(*_: object) -> None:
        raise ConnectionError("lost")

    event_id = park_created(channel)
    with monkeypatch.context() as patch:
        patch.setattr(ParkingLot, "discard", fail)

        # When the message is edited
        edit(env, event_id, *TWO, *redrive, status=1)

    # Then the original is parked, the copy exists, and the edit is recorded
    number = 1 if redrive else 2
    eventually(lambda: _are_parked(env, [str(event_id)] * number))
    found = [*drained(channel, "inventory.dlq"), *drained(channel, "inventory.queue")]
    assert [envelope(message)["data"]["lines"][0]["quantity"] for message in found] == [1, 2]
    assert [entry.change for entry in entries(settings, event_id)] == [Change.EDITED]


def test_a_crash_before_the_copy_is_published_leaves_the_original(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a connection that ends before the copy is published
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("lost")

    event_id = park_created(channel)
    with monkeypatch.context() as patch:
        patch.setattr(ParkingLot, "put_back", fail)

        # When the message is edited and redriven
        edit(env, event_id, *TWO, "--redrive", status=1)

    # Then only the original exists, and the edit is recorded
    eventually(lambda: _are_parked(env, [str(event_id)]))
    assert drained(channel, "inventory.queue") == []
    assert [entry.change for entry in entries(settings, event_id)] == [Change.EDITED]


def _are_parked(env: Environment, event_ids: list[str]) -> None:
    assert [row["id"] for row in parked(env)] == event_ids


def test_a_full_queue_keeps_the_message_and_the_failed_edit_is_recorded(
    vhost: Vhost, channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given a full queue
    event_id = park_created(channel)
    limit(vhost, INVENTORY, 1)
    eventually(lambda: _fill(channel))

    # When an edited message is to be redriven
    output = edit(env, event_id, *TWO, "--redrive", status=1)

    # Then it stays, and the journal has both entries
    assert "inventory.queue is full" in output
    assert [row["id"] for row in parked(env)] == [str(event_id)]
    recorded = [(entry.change, entry.text) for entry in entries(settings, event_id)]
    assert recorded == [
        (Change.EDITED, "a typing error"),
        (Change.EDIT_FAILED, "inventory.queue is full"),
    ]


def _fill(channel: Channel) -> None:
    message = Message(b"[]", delivery_mode=2)
    with suppress(MessageNacked):
        channel.basic_publish(message, routing_key="inventory.queue", confirm_timeout=10)
        raise AssertionError("the queue accepts messages")


def test_a_plan_does_not_contain_a_message_that_was_edited_later(
    channel: Channel, env: Environment
) -> None:
    # Given a plan of a message, which is then edited
    event_id = park_created(channel)
    planned = orderctl(env, "parked", "plan", "inventory", "--json")
    plan = str(json.loads(planned.stdout)["id"])
    edit(env, event_id, *TWO)

    # When the plan runs
    result = orderctl(env, "parked", "run", plan)

    # Then it redrives neither version
    assert "1 gone" in result.output
    assert [row["id"] for row in parked(env)] == [str(event_id)]


@pytest.mark.parametrize(("answer", "redriven"), [("n\n", 0), ("", 0), ("y\n", 1)])
def test_an_edit_asks_for_confirmation(
    channel: Channel, env: Environment, answer: str, redriven: int
) -> None:
    # Given a parked message
    event_id = park_created(channel)

    # When the question is answered
    arguments = ("parked", "edit", "inventory", str(event_id), *TWO[:-1], "--redrive")
    result = orderctl(env, *arguments, answer=answer)

    # Then the message is edited only after a yes
    assert f"inventory: edit {event_id}?" in result.stderr
    assert result.exit_code == (0 if redriven else 1)
    assert len(drained(channel, "inventory.queue")) == redriven


def test_a_message_without_an_event_cannot_be_edited(channel: Channel, env: Environment) -> None:
    message = Message(b"no JSON", message_id="e-1")
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")

    assert "e-1 cannot be edited: its body contains no event" in edit(env, "e-1", *TWO, status=1)
    assert "not parked by inventory: e-9" in edit(env, "e-9", *TWO, status=1)


def test_wrong_arguments_of_an_edit_are_named(
    channel: Channel, env: Environment, file_of: Callable[[bytes], str]
) -> None:
    park(channel, "e-1")

    assert "specify --reason" in edit(env, "e-1", "--set", "data.a=1", status=64)
    assert "specify --set or --file" in edit(env, "e-1", "--redrive", status=64)
    wrong = ("--reason", "a test", "--yes")
    assert "--file: not JSON" in edit(env, "e-1", "--file", file_of(b"{"), *wrong, status=1)
    large = file_of(b" " * 300_000)
    assert "--file: more than 262144 bytes" in edit(env, "e-1", "--file", large, *wrong, status=1)
