"""`orderctl parked edit` on a real broker and databases, without workers."""

import json
from pathlib import Path
from typing import Any

import pytest
from amqp import Channel

from console.commands.operator import operator_name
from console.parking.journal import Change
from eventbus.events import codec
from testkit.data.parked import drained, park_created, parked, parked_messages
from testkit.processes.orderctl import orderctl
from tests.support.operator_settings import OperatorSettings
from tests.support.parked_edits import QUANTITY_OF_TWO, edit, entries, envelope

Environment = dict[str, str]


def parked_envelopes(channel: Channel) -> list[dict[str, Any]]:
    """Remove the messages of the parking lot, at least one, and return their envelopes."""
    return [envelope(message) for message in parked_messages(channel)]


def test_an_edited_message_is_redriven_with_its_id_and_the_edit_is_recorded(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given two parked messages
    other, event_id = park_created(channel), park_created(channel)

    # When one is edited and redriven
    output = edit(env, event_id, *QUANTITY_OF_TWO, "--redrive")

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
    output = edit(env, event_id, *QUANTITY_OF_TWO)

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


def test_a_plan_does_not_contain_a_message_that_was_edited_later(
    channel: Channel, env: Environment
) -> None:
    # Given a plan of a message, which is then edited
    event_id = park_created(channel)
    planned = orderctl(env, "parked", "plan", "inventory", "--json")
    plan = str(json.loads(planned.stdout)["id"])
    edit(env, event_id, *QUANTITY_OF_TWO)

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
    arguments = ("parked", "edit", "inventory", str(event_id), *QUANTITY_OF_TWO[:-1], "--redrive")
    result = orderctl(env, *arguments, answer=answer)

    # Then the message is edited only after a yes
    assert f"inventory: edit {event_id}?" in result.stderr
    assert result.exit_code == (0 if redriven else 1)
    assert len(drained(channel, "inventory.queue")) == redriven
