"""The stream on a real broker can be read repeatedly, from any position."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from kombu.connection import Connection

from common.kombu_topology import EVENTS, INVENTORY, STREAM, topology
from eventbus.messaging import stream
from eventbus.messaging.stream import Entry, Start, Stream, oldest, watermark
from eventbus.topology.objects import Binding
from testkit.eventually import becomes
from testkit.servers.vhosts import Vhost

CREATED = "order.created"


@pytest.fixture
def connection(broker: Vhost) -> Iterator[Connection]:
    """A connection of the administrator."""
    with broker.connect() as connection:
        yield connection


def publish(broker: Vhost, *names: str, key: str = CREATED, at: datetime | None = None) -> None:
    for name in names:
        properties = {"timestamp": int(at.timestamp())} if at else {}
        broker.publish(
            b"{}", exchange=EVENTS.name, routing_key=key, headers={}, message_id=name, **properties
        )


def read_all(connection: Connection, start: Start, *, limit: int = 100) -> list[Entry]:
    stream = Stream(connection, STREAM, start)
    entries_read: list[Entry] = []
    # The first read may be slow on a busy broker.
    while entries := stream.read(limit, timeout=5.0 if not entries_read else 1.0):
        assert len(entries) <= limit
        entries_read += entries
    stream.close()
    return entries_read


def names(entries: list[Entry]) -> list[str]:
    return [entry.message.properties["message_id"] for entry in entries]


def test_every_reader_receives_all_messages_in_order(broker: Vhost, connection: Connection) -> None:
    publish(broker, *"abcdef")

    first, second = (read_all(connection, "first", limit=4) for _ in range(2))

    assert names(first) == names(second) == list("abcdef")
    assert [e.offset for e in first] == sorted({e.offset for e in first})


def test_a_stream_is_read_from_any_offset(broker: Vhost, connection: Connection) -> None:
    publish(broker, *"abcdef")
    fourth = read_all(connection, "first")[3]

    assert names(read_all(connection, fourth.offset)) == list("def")


def test_reading_from_a_time_includes_all_later_messages(
    broker: Vhost, connection: Connection
) -> None:
    publish(broker, *"ab")
    moment = datetime.now(UTC)
    publish(broker, *"cd")

    # Streams deliver whole chunks, which may contain earlier messages.
    assert names(read_all(connection, moment))[-2:] == list("cd")
    assert names(read_all(connection, moment - timedelta(days=1))) == list("abcd")


def test_a_reader_receives_more_messages_than_its_prefetch(
    broker: Vhost, connection: Connection
) -> None:
    # Given more messages than the prefetch
    publish(broker, *map(str, range(25)))
    stream = Stream(connection, STREAM, "first", prefetch=10)

    # When they are read in small batches
    entries_read: list[Entry] = []
    while entries := stream.read(7, timeout=2.0):
        entries_read += entries

    # Then all are read
    assert names(entries_read) == [str(n) for n in range(25)]


def test_a_reader_at_the_end_receives_new_messages(broker: Vhost, connection: Connection) -> None:
    publish(broker, "past")
    stream = Stream(connection, STREAM, "next")
    assert stream.read(10, timeout=0.1) == []

    publish(broker, "new")

    assert names(list(stream.read(10, timeout=60))) == ["new"]


def test_an_entry_has_its_time_of_publication(broker: Vhost, connection: Connection) -> None:
    moment = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
    publish(broker, "a", at=moment)
    publish(broker, "b")

    assert [e.published_at for e in read_all(connection, "first")] == [moment, None]


def test_the_watermark_separates_confirmed_from_later_messages(
    broker: Vhost, connection: Connection
) -> None:
    publish(broker, *"abc")

    mark = watermark(connection, STREAM)

    publish(broker, *"de")
    entries = read_all(connection, "first")
    assert names([e for e in entries if e.offset < mark]) == list("abc")
    assert names([e for e in entries if e.offset > mark]) == list("de")


def test_watermarks_are_not_delivered_to_readers(connection: Connection) -> None:
    watermark(connection, STREAM)
    watermark(connection, STREAM)

    assert read_all(connection, "first") == []


def test_the_oldest_message_is_found(broker: Vhost, connection: Connection) -> None:
    assert oldest(connection, STREAM, timeout=0.2) is None

    publish(broker, *"ab")

    entry = oldest(connection, STREAM, timeout=60)
    assert entry is not None
    assert names([entry]) == ["a"]


def test_the_end_is_found_while_the_first_message_arrives(
    broker: Vhost, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an empty stream, and a message that arrives after the first look
    def arrives_first(connection: Connection, name: str, timeout: float) -> Entry | None:
        publish(broker, "a")
        return oldest(connection, name, timeout)

    monkeypatch.setattr(stream, "_END_TIMEOUT", 2.0)
    monkeypatch.setattr(stream, "oldest", arrives_first)

    # Then the end is behind the message
    assert stream.end(connection, STREAM) == 1


def test_the_stream_stores_events_whose_consumer_is_unbound(
    broker: Vhost, connection: Connection
) -> None:
    # Given an event type whose only consumer is unbound
    queue = f"/bindings/{broker.name}/e/{EVENTS.name}/q/{INVENTORY.queue}"
    broker.request("DELETE", f"{queue}/{CREATED}")

    # When an event is published
    publish(broker, "a")

    # Then it is in the stream only
    becomes(lambda: broker.depth(INVENTORY.queue), 0)
    assert names(read_all(connection, "first")) == ["a"]
    lost = Binding(exchange=EVENTS.name, queue=INVENTORY.queue, routing_key=CREATED)
    assert lost in topology().bindings


def test_the_stream_does_not_store_unconsumed_events(broker: Vhost, connection: Connection) -> None:
    publish(broker, "a", key="price.changed")
    publish(broker, "b")

    assert names(read_all(connection, "first")) == ["b"]
    assert STREAM in {queue.name for queue in topology().queues}
