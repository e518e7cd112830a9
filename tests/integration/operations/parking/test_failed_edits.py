"""Edits of parked messages that a crash or a full queue interrupts."""

from contextlib import suppress

import pytest
from amqp import Channel, Message
from amqp.exceptions import MessageNacked

from common.kombu_topology import INVENTORY
from console.broker.parking_lot import ParkingLot
from console.parking.journal import Change
from testkit.data.dropping import limit
from testkit.data.parked import drained, park_created, parked
from testkit.eventually import eventually
from testkit.servers.vhosts import Vhost
from tests.support.operator_settings import OperatorSettings
from tests.support.parked_edits import QUANTITY_OF_TWO, edit, entries, envelope

Environment = dict[str, str]


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
        edit(env, event_id, *QUANTITY_OF_TWO, *redrive, status=1)

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
        edit(env, event_id, *QUANTITY_OF_TWO, "--redrive", status=1)

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
    output = edit(env, event_id, *QUANTITY_OF_TWO, "--redrive", status=1)

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
        channel.basic_publish(message, routing_key="inventory.queue", confirm_timeout=60)
        raise AssertionError("the queue accepts messages")
