"""The index of a large parking lot follows the parking lot, and acts on nothing."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from amqp import Channel, Message
from flask.testing import FlaskClient
from sqlalchemy import text

from common.kombu_topology import CONSOLE, INVENTORY
from console.broker.state import Object
from console.databases.service_database import sessions, transaction
from console.errors import ActionError
from console.models import IndexedRow
from console.parking import lookup, memory
from console.parking.index import reading, renewal, rows, turn
from console.parking.redrive.lease import lease
from eventbus.database import db
from testkit.data.hostile_parked import park_hostile
from testkit.data.parked import drained, held, park
from testkit.data.redrives import discard, park_event, planned, run
from testkit.eventually import becomes, eventually
from testkit.processes.web_console import get
from testkit.servers.vhosts import Vhost
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]

LOT = INVENTORY.parking_lot


def read(settings: OperatorSettings) -> None:
    """Read the parking lot into the index."""
    reading.read(settings, INVENTORY)


def renew(settings: OperatorSettings, count: int) -> None:
    """Renew the index when the broker counts so many messages."""
    totals: dict[str, Object] = {LOT: {"messages": count}}
    with sessions(settings, CONSOLE) as own:
        renewal.renew(settings, own, totals)


def indexed(settings: OperatorSettings) -> list[str]:
    """Return the ids of the messages in the index."""
    with transaction(settings, CONSOLE) as session:
        return [parked.id for parked in rows.oldest(session, "inventory", limit=100_000)]


def read_at(settings: OperatorSettings) -> object:
    """Return the time of the last reading."""
    with transaction(settings, CONSOLE) as session:
        lot = rows.lot(session, "inventory")
        return lot and lot.read_at


def depth(channel: Channel) -> int:
    """Return the number of messages in the parking lot that no reader holds."""
    return int(channel.queue_declare(LOT, passive=True).message_count)


def parks(channel: Channel, event_ids: Iterable[str]) -> None:
    """Park messages, and wait until the queue has them."""
    expected = depth(channel)
    for event_id in event_ids:
        park(channel, event_id, type="order.created")
        expected += 1
    becomes(lambda: depth(channel), expected)


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


def test_a_lost_index_is_built_again(
    channel: Channel, settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an index that a crash of the database has emptied
    monkeypatch.setattr(renewal, "LARGE", 1)
    parks(channel, ["e-1", "e-2"])
    renew(settings, 2)
    with transaction(settings, CONSOLE) as session:
        for table in ("indexed_lots", "indexed_messages"):
            session.execute(text(f"DELETE FROM {table}"))

    # When it is renewed
    renew(settings, 2)

    # Then it has all messages again
    assert indexed(settings) == ["e-1", "e-2"]


def test_a_large_parking_lot_is_read_again_when_it_has_changed_or_the_index_is_old(
    channel: Channel, settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a large parking lot
    monkeypatch.setattr(renewal, "LARGE", 1)
    parks(channel, ["e-1", "e-2"])
    renew(settings, 2)
    first = read_at(settings)

    # When it has not changed, or its last reading took long, it is not read again
    renew(settings, 2)
    monkeypatch.setattr(renewal, "SHARE", 0.0)
    renew(settings, 3)
    assert read_at(settings) == first

    # When it has changed, it is read again
    monkeypatch.setattr(renewal, "SHARE", float("inf"))
    renew(settings, 3)
    second = read_at(settings)
    assert second != first

    # And when the index is old
    monkeypatch.setattr(renewal, "RECONCILED", renewal.RECONCILED * 0)
    renew(settings, 2)
    assert read_at(settings) != second


def test_a_small_parking_lot_is_not_indexed(channel: Channel, settings: OperatorSettings) -> None:
    parks(channel, ["e-1"])

    renew(settings, renewal.LARGE)

    assert (indexed(settings), read_at(settings)) == ([], None)


def test_an_unavailable_broker_leaves_the_index(
    channel: Channel, settings: OperatorSettings
) -> None:
    # Given an index
    parks(channel, ["e-1"])
    read(settings)

    # When the broker cannot be reached
    with pytest.raises(ActionError, match="the broker at"):
        read(settings.model_copy(update={"broker_port": 1}))

    # Then the index remains, and is read again afterwards
    assert indexed(settings) == ["e-1"]
    parks(channel, ["e-2"])
    read(settings)
    assert indexed(settings) == ["e-1", "e-2"]


@contextmanager
def turn_of_command(settings: OperatorSettings) -> Iterator[threading.Event]:
    """Wait for the turn of a command in another thread; yields an event that is set in the turn."""
    taken, ended = threading.Event(), threading.Event()

    def command() -> None:
        with turn.of_command(settings, "inventory"):
            taken.set()
            ended.wait()

    thread = threading.Thread(target=command)
    thread.start()
    try:
        yield taken
    finally:
        ended.set()
        thread.join()


def test_a_command_waits_until_the_index_ends_its_reading(settings: OperatorSettings) -> None:
    # Given the turn of the index
    with turn.of_index(settings, "inventory") as own:
        with db.transaction(own) as session:
            assert not turn.is_awaited(session, "inventory")

        # When a command waits
        with turn_of_command(settings) as taken:

            def awaited() -> bool:
                with transaction(settings, CONSOLE) as session:
                    return turn.is_awaited(session, "inventory")

            becomes(awaited, True)

            # Then it does not have its turn
            assert not taken.is_set()


def test_a_reading_ends_if_a_command_waits_and_the_last_one_remains(
    channel: Channel, settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an index, and a message that has left the parking lot
    parks(channel, ["e-1", "e-2"])
    read(settings)
    channel.basic_get(LOT, no_ack=True)
    becomes(lambda: depth(channel), 1)

    # When a command waits during a reading
    monkeypatch.setattr(turn, "is_awaited", lambda _session, service: service == "inventory")
    with pytest.raises(ActionError, match="a command waits"):
        read(settings)

    # Then the index is the last one, and the message is in the parking lot
    assert indexed(settings) == ["e-1", "e-2"]
    assert [m.headers["id"] for m in drained(channel, LOT)] == ["e-2"]


def test_the_index_is_not_read_in_the_turn_of_a_command(
    channel: Channel, settings: OperatorSettings
) -> None:
    parks(channel, ["e-1"])
    with turn_of_command(settings) as taken:
        assert taken.wait(60)
        with pytest.raises(ActionError, match="a command uses the parking lot of inventory"):
            read(settings)
    with (
        lease(settings, "inventory"),
        pytest.raises(ActionError, match="a command uses the parking lot of inventory"),
    ):
        read(settings)

    eventually(lambda: read(settings))

    assert indexed(settings) == ["e-1"]


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
