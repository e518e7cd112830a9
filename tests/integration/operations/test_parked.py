"""`orderctl parked list` on a real broker."""

import re
from typing import TypeVar

from amqp import Channel, Message

from eventbus.topology.limits import DELIVERY_LIMIT
from testkit.data.parked import held, park, parked
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl

T = TypeVar("T")


def test_a_parked_message_shows_its_failure(channel: Channel, applied: dict[str, str]) -> None:
    park(channel, "e-1")

    (message,) = parked(applied)

    changing = {"first_failed_at": "", "last_failed_at": "", "digest": ""}
    assert message | changing == {
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
        "digest": "",
    }
    assert re.fullmatch("[0-9a-f]{64}", message["digest"])
    assert "ValueError: no way" in orderctl(applied, "parked", "list").stdout


def test_a_parked_message_shows_that_it_crashed_workers(
    channel: Channel, applied: dict[str, str]
) -> None:
    channel.basic_publish(Message(b"\xff not JSON"), routing_key="inventory.queue")
    for _ in range(DELIVERY_LIMIT + 1):
        message = eventually(lambda: some(channel.basic_get("inventory.queue")))
        channel.basic_reject(message.delivery_tag, requeue=True)

    (message,) = eventually(lambda: some(parked(applied)))

    assert message["text"] == f"exceeded the delivery limit: {DELIVERY_LIMIT + 1} deliveries"
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


def test_messages_that_another_reader_holds_are_reported(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given two parked messages, held by another reader
    for event_id in ("e-1", "e-2"):
        park(channel, event_id)
    with held(channel, 2):
        # When they are listed and grouped
        listed = orderctl(applied, "parked", "list", "inventory")
        grouped = orderctl(applied, "parked", "groups", "--service", "inventory")

        # Then the reader is reported, rather than an empty parking lot
        for result in (listed, grouped):
            assert (result.exit_code, result.stdout) == (0, "")
            assert "inventory: " in result.stderr
            assert "another reader" in result.stderr

        # When the broker has counted the messages, then their number is reported as well
        eventually(lambda: _reports_two(applied))

    # When they are released, then there is no other reader
    result = orderctl(applied, "parked", "list", "inventory")
    assert "another reader" not in result.stderr
    assert [message["id"] for message in parked(applied)] == ["e-1", "e-2"]


def _reports_two(env: dict[str, str]) -> None:
    for command in ("list", "groups"):
        result = orderctl(env, "parked", command)
        assert "inventory: 2 more are held by another reader\n" in result.stderr
