"""`orderctl parked list` on a real broker."""

from typing import TypeVar

from amqp import Channel, Message

from eventbus.topology.limits import DELIVERY_LIMIT
from testkit.data.parked import park, parked
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
