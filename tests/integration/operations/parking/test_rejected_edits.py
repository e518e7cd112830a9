"""Edits that `orderctl parked edit` rejects: by the contract, by age, by arguments."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from amqp import Channel, Message

from testkit.data.parked import drained, park, park_created, parked
from tests.support.operator_settings import OperatorSettings
from tests.support.parked_edits import QUANTITY_OF_TWO, edit, entries, envelope

Environment = dict[str, str]


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[[bytes], str]:
    """A function that returns the name of a file with this content."""

    def create(content: bytes) -> str:
        file = tmp_path / "payload.json"
        file.write_bytes(content)
        return str(file)

    return create


def parked_envelopes(channel: Channel) -> list[dict[str, Any]]:
    """Remove the messages of the parking lot, at least one, and return their envelopes."""
    found = [envelope(message) for message in drained(channel, "inventory.dlq")]
    assert found
    return found


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


def test_an_event_that_is_too_old_is_edited_but_not_redriven(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given an event that is too old
    old = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    event_id = park_created(channel, event={"time": old})

    # When its edited copy is to be redriven
    output = edit(env, event_id, *QUANTITY_OF_TWO, "--redrive", status=1)

    # Then it stays as it was
    assert f"{event_id} is older than PARKED_REDRIVE_DAYS (14)" in output
    assert "effect of the redrive: too old" in output
    assert entries(settings, event_id) == []
    # And it can be edited without the redrive
    edit(env, event_id, *QUANTITY_OF_TWO)
    (event,) = parked_envelopes(channel)
    assert event["data"]["lines"][0]["quantity"] == 2


def test_a_message_without_an_event_cannot_be_edited(channel: Channel, env: Environment) -> None:
    message = Message(b"no JSON", message_id="e-1")
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")

    assert "e-1 cannot be edited: its body contains no event" in edit(
        env, "e-1", *QUANTITY_OF_TWO, status=1
    )
    assert "not parked by inventory: e-9" in edit(env, "e-9", *QUANTITY_OF_TWO, status=1)


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
