"""The index of a large parking lot is renewed, in turns with commands."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from amqp import Channel
from sqlalchemy import text

from common.kombu_topology import CONSOLE
from console.databases.service_database import transaction
from console.errors import ActionError
from console.parking.index import renewal, turn
from console.parking.redrive.lease import lease
from testkit.data.indexed import LOT, depth, indexed, parks, read, read_at, renew
from testkit.data.parked import drained
from testkit.eventually import PATIENCE, becomes, eventually
from tests.support.operator_settings import OperatorSettings


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
    def is_awaited() -> bool:
        with transaction(settings, CONSOLE) as session:
            return turn.is_awaited(session, "inventory")

    with ExitStack() as commands:
        # Given the turn of the index
        with turn.of_index(settings, "inventory"):
            assert not is_awaited()

            # When a command waits
            taken = commands.enter_context(turn_of_command(settings))
            becomes(is_awaited, True)

            # Then it does not have its turn
            assert not taken.is_set()

        # And it has its turn once the index has ended
        assert taken.wait(PATIENCE)


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
        assert taken.wait(PATIENCE)
        with pytest.raises(ActionError, match="a command uses the parking lot of inventory"):
            read(settings)
    with (
        lease(settings, "inventory"),
        pytest.raises(ActionError, match="a command uses the parking lot of inventory"),
    ):
        read(settings)

    eventually(lambda: read(settings))

    assert indexed(settings) == ["e-1"]
