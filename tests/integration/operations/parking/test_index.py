"""The index of a large parking lot has its messages, and no action uses it."""

from uuid import uuid4

import pytest
from amqp import Channel, Message
from flask.testing import FlaskClient

from common.kombu_topology import CONSOLE, INVENTORY
from console.databases.service_database import transaction
from console.models import IndexedRow
from console.parking import lookup, memory
from console.parking.index import reading
from testkit.data.hostile_parked import park_hostile
from testkit.data.indexed import LOT, depth, indexed, parks, read, read_at, renew
from testkit.data.parked import drained, held, park
from testkit.data.redrives import discard, park_event, planned, run
from testkit.eventually import becomes, eventually
from testkit.processes.web_console import get
from testkit.servers.vhosts import Vhost
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


def test_the_index_has_every_message_in_the_order_of_the_queue(
    channel: Channel, settings: OperatorSettings
) -> None:
    # Given more messages than one consumer or one transaction holds
    event_ids = [f"e-{n}" for n in range(2_300)]
    parks(channel, event_ids)

    # When the parking lot is read, and again after another message
    read(settings)
    first = indexed(settings)
    parks(channel, ["later"])
    read(settings)

    # Then the index has them in their order, with their content, and all stay parked
    assert first == event_ids
    assert indexed(settings) == [*event_ids, "later"]
    (content,) = lookup.find(settings, INVENTORY, "e-7").contents
    assert content.body
    assert (content.parked.exception, len(content.body)) == ("ValueError", content.size)
    assert content.headers["id"] == "e-7"
    assert eventually(lambda: [m.headers["id"] for m in drained(channel, LOT)]) == [
        *event_ids,
        "later",
    ]


def test_messages_that_have_left_the_parking_lot_leave_the_index(
    channel: Channel, settings: OperatorSettings, env: Environment
) -> None:
    parks(channel, ["e-1", "e-2", "e-3"])
    read(settings)

    discard(env, "e-2")
    read(settings)

    assert indexed(settings) == ["e-1", "e-3"]


def test_a_purged_parking_lot_leaves_the_index(
    channel: Channel, settings: OperatorSettings
) -> None:
    parks(channel, ["e-1", "e-2"])
    read(settings)
    channel.queue_purge(LOT)

    renew(settings, 0)

    assert (indexed(settings), read_at(settings)) == ([], None)


def test_messages_that_another_reader_holds_stay_in_the_index(
    channel: Channel, settings: OperatorSettings
) -> None:
    # Given indexed messages, which another reader holds
    parks(channel, ["e-1", "e-2"])
    read(settings)
    with held(channel, 2):
        # When the parking lot is read
        read(settings)

    # Then the messages stay in the index, which reports the reader
    assert indexed(settings) == ["e-1", "e-2"]
    assert "another reader" in memory.indexed(settings, INVENTORY).unread


def test_several_messages_of_one_event_are_told_apart(
    channel: Channel, settings: OperatorSettings
) -> None:
    # Given two bodies of one event, the first of which is parked twice
    bodies = [b"[1]", b"[1]", b"[2]"]
    for body in bodies:
        channel.basic_publish(Message(body, message_id="e-1"), routing_key=LOT)
    becomes(lambda: depth(channel), 3)

    # When the parking lot is read twice
    read(settings)
    read(settings)

    # Then each body is found by its digest
    found = lookup.find(settings, INVENTORY, "e-1", limit=10).contents
    assert [content.body for content in found] == [b"[1]", b"[2]"]
    (second,) = lookup.find(settings, INVENTORY, "e-1", found[1].parked.digest, limit=10).contents
    assert second.body == b"[2]"
    (group,) = memory.indexed(settings, INVENTORY).groups
    assert group.group.count == 3


def test_hostile_messages_are_indexed_and_have_pages(
    broker: Vhost, settings: OperatorSettings, console: FlaskClient
) -> None:
    # Given hostile messages
    count = park_hostile(broker, seed=1)

    # When they are indexed, and read again
    read(settings)
    event_ids = indexed(settings)
    read(settings)

    # Then each has one row, and pages
    assert indexed(settings) == event_ids
    assert 0 < len(event_ids) <= count
    for event_id in event_ids[::3]:
        for kind in ("message", "redrive", "discard", "history"):
            answer = get(console, f"/parked/inventory/{kind}", id=event_id)
            assert answer.status_code == 200, (event_id, answer.text)
    for path in ("/parked", "/parked/groups"):
        assert get(console, path).text.count("As of" if "groups" in path else "parked as of") == 1


def test_the_groups_of_an_indexed_parking_lot_are_remembered(
    channel: Channel, settings: OperatorSettings
) -> None:
    # Given messages of two causes
    park(channel, "e-1", exception="KeyError", type="order.created")
    park(channel, "e-2", exception="KeyError", type="order.created")
    parks(channel, ["e-3"])

    # When they are indexed
    read(settings)

    # Then their groups are known, with the number of their messages
    listing = memory.indexed(settings, INVENTORY)
    assert listing.as_of == read_at(settings)
    assert listing.messages == 3
    found = {each.group.failure: (each.group.count, each.memory) for each in listing.groups}
    assert found["KeyError"][0] == 2
    assert found["KeyError"][1] is not None


def test_a_message_is_planned_from_the_parking_lot_and_not_from_the_index(
    channel: Channel, settings: OperatorSettings, env: Environment
) -> None:
    # Given an index that is older than the parking lot
    event_id = park_event(channel)
    becomes(lambda: depth(channel), 1)
    read(settings)
    drained(channel, LOT)
    other = park_event(channel)
    becomes(lambda: depth(channel), 1)

    # When a plan is made, and the message of the index is to be redriven
    plan = planned(env)
    output = run(env, "redrive", "inventory", "--id", event_id, status=1)

    # Then both use the parking lot
    assert sum(plan["states"].values()) == 1
    assert f"not parked by inventory: {event_id}" in output
    assert [m.headers["id"] for m in drained(channel, LOT)] == [other]


@pytest.mark.parametrize(("limit", "value", "kept"), [("ROWS", 1, 1), ("BYTES", 0, 2)])
def test_the_index_has_a_limit(
    channel: Channel,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
    kept: int,
) -> None:
    # Given a limit on the rows, or on the bytes of the bodies
    monkeypatch.setattr(reading, limit, value)
    parks(channel, [str(uuid4()), str(uuid4())])

    # When more is read
    read(settings)

    # Then the rest is counted, and not kept
    assert len(indexed(settings)) == kept
    assert memory.indexed(settings, INVENTORY).messages == 2
    if limit == "BYTES":
        with transaction(settings, CONSOLE) as session:
            bodies = session.query(IndexedRow.body, IndexedRow.size).all()
        assert all(body is None and size > 0 for body, size in bodies)
