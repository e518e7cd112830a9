"""`orderctl parked list` and `orderctl parked discard` on a real broker."""

import json
from typing import TypeVar

import pytest
from amqp import Channel, Message

from eventbus.topology.limits import DELIVERY_LIMIT
from testkit.data.parked import drained, park, parked
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl

T = TypeVar("T")


def test_a_parked_message_shows_its_failure(channel: Channel, applied: dict[str, str]) -> None:
    park(channel, "e-1")

    (message,) = parked(applied)

    assert message | {"first_failed_at": "", "last_failed_at": ""} == {
        "service": "inventory",
        "id": "e-1",
        "type": "order.created",
        "order_id": "an-order",
        "exception": "ValueError",
        "text": "no\nway",
        "attempts": 1,
        "first_failed_at": "",
        "last_failed_at": "",
        "release": "r1",
        "frame": None,
    }
    assert "ValueError: no way" in orderctl(applied, "parked", "list").stdout


def test_a_parked_message_shows_that_it_crashed_workers(
    channel: Channel, applied: dict[str, str]
) -> None:
    channel.basic_publish(Message(b"\xff not JSON"), routing_key="inventory.queue")
    for _ in range(DELIVERY_LIMIT + 1):
        message = eventually(lambda: some(channel.basic_get("inventory.queue")))
        channel.basic_reject(message.delivery_tag, requeue=True)

    (message,) = eventually(lambda: some(parked(applied)))

    assert (
        message["text"]
        == f"exceeded the delivery limit: {DELIVERY_LIMIT + 1} deliveries"
    )
    assert message["id"].startswith("unnamed-")
    assert (message["exception"], message["order_id"]) == (None, None)


def some(value: T | None) -> T:
    assert value
    return value


def test_listing_changes_neither_messages_nor_their_order(
    channel: Channel, applied: dict[str, str]
) -> None:
    ids = [f"e-{n}" for n in range(50)]
    for event_id in ids:
        park(channel, event_id)

    first = parked(applied, "--limit", "3")
    again = parked(applied)

    assert [message["id"] for message in first] == ids[:3]
    assert [message["id"] for message in again] == ids


def test_a_discarded_message_is_shown_and_deleted(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given messages of three events, one of them parked twice
    for event_id in ("e-1", "e-2", "e-3", "e-2"):
        park(channel, event_id)

    # When the event is discarded
    result = orderctl(applied, "parked", "discard", "inventory", "--id", "e-2", "--yes", "--json")

    # Then both messages are shown and deleted, and the others keep their order
    assert (result.exit_code, result.stderr) == (0, "inventory: 2 deleted permanently\n")
    shown = json.loads(result.stdout)
    assert [(m["id"], m["exception"]) for m in shown] == [("e-2", "ValueError")] * 2
    assert json.loads(shown[0]["body"]) == [[], {"event": {"subject": "an-order"}}, {}]
    assert [message["id"] for message in parked(applied)] == ["e-1", "e-3"]
    assert drained(channel, "inventory.queue") == []


def test_discard_deletes_all_named_messages_or_none(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given one parked message
    park(channel, "e-1")
    discard = ("parked", "discard", "inventory", "--yes", "--id", "e-1", "--id", "e-9")

    # When one of two named events is not parked
    result = orderctl(applied, *discard)

    # Then neither is deleted
    assert (result.exit_code, result.stderr) == (1, "Error: not parked by inventory: e-9\n")
    assert [message["id"] for message in parked(applied)] == ["e-1"]


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["e-1"]), ("", ["e-1"]), ("y\n", [])])
def test_discard_asks_for_confirmation(
    channel: Channel, applied: dict[str, str], answer: str, left: list[str]
) -> None:
    # Given a parked message
    park(channel, "e-1")

    # When the question is answered
    result = orderctl(applied, "parked", "discard", "inventory", "--id", "e-1", answer=answer)

    # Then the message is deleted only after a yes
    assert "inventory: delete e-1 permanently?" in result.stderr
    assert result.exit_code == (1 if left else 0)
    assert ("no way" in result.stdout) is (not left)
    assert [message["id"] for message in parked(applied)] == left


def test_discard_requires_an_id(applied: dict[str, str]) -> None:
    assert orderctl(applied, "parked", "discard", "inventory").exit_code == 64
