"""Guarded connections on a real broker deliver every message, regardless of its properties."""

from typing import Any

import pytest
from kombu.message import Message

from common.kombu_topology import EVENTS, STREAM
from console.broker.connection import connected
from console.settings import BrokerAdminSettings
from eventbus.messaging.stream import Stream
from eventbus.messaging.untrusted import BODY_LIMIT
from testkit.eventually import PATIENCE, becomes
from testkit.servers.vhosts import Vhost
from testkit.wire.frames import (
    integer,
    long_string,
    nested,
    properties,
    short_string,
    table,
    timestamp,
)
from testkit.wire.publisher import Refused, wire_publisher

TASK = (b"task", long_string(b"order.created"))
KEY = "order.created"

HOSTILE = {
    "a time in milliseconds": properties(
        headers=table([TASK, (b"at", timestamp(1_795_000_000_000))]), delivery_mode=b"\2"
    ),
    "a time before 1970": properties(headers=table([TASK, (b"at", timestamp(-1))])),
    "a message id that is not UTF-8": properties(
        headers=table([TASK]), message_id=short_string(b"\xff")
    ),
    "arrays 2,000 deep": properties(headers=table([TASK, (b"deep", nested(2_000))])),
    "tables 500 deep": properties(headers=table([TASK, (b"deep", nested(500, tables=True))])),
}


def publish(broker: Vhost, *messages: bytes) -> None:
    with wire_publisher(broker) as publisher:
        for message in messages:
            publisher.publish(EVENTS.name, KEY, message, b"{}")
        publisher.settle()


def consume(channel: Any, queue: str, count: int) -> list[Message]:
    messages: list[Message] = []
    channel.basic_consume(
        queue, callback=lambda raw: messages.append(channel.message_to_python(raw))
    )
    while len(messages) < count:
        channel.connection.drain_events(timeout=PATIENCE)
    return messages


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_consumed_with_errors_and_settled(broker: Vhost, name: str) -> None:
    # Given a hostile message in a queue, and a good one behind it
    publish(broker, HOSTILE[name], properties(headers=table([TASK])))

    with connected(BrokerAdminSettings(**broker.administrator)) as connection:
        channel = connection.channel()

        # When both are consumed
        hostile, good = consume(channel, "inventory.queue", 2)

        # Then the first has errors and its readable headers, and is rejected by its own tag
        assert hostile.errors
        assert hostile.headers["task"] == "order.created"
        assert not good.errors
        hostile.reject()
        good.ack()
    becomes(lambda: broker.depth("inventory.queue"), 0)
    becomes(lambda: broker.depth("inventory.dlq"), 1)


def test_a_stream_is_read_past_hostile_messages(broker: Vhost) -> None:
    publish(broker, *HOSTILE.values(), properties(headers=table([TASK])))

    with broker.connect() as connection:
        stream = Stream(connection, STREAM, "first")
        entries = list(stream.read(100, timeout=PATIENCE))
        while len(entries) <= len(HOSTILE):
            entries += stream.read(100, timeout=PATIENCE)

    # A stream may store fewer headers than a queue: RabbitMQ 3.10 drops nested ones.
    assert all(entry.message.headers["task"] == "order.created" for entry in entries)
    assert [bool(entry.message.errors) for entry in entries[:3]] == [True] * 3
    assert not entries[-1].message.errors
    assert [entry.offset for entry in entries] == sorted({entry.offset for entry in entries})


@pytest.mark.parametrize(
    "forged",
    [integer(10**9), integer(-1), long_string(b"text")],
    ids=["ahead", "behind", "text"],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_publisher_cannot_choose_the_offset_of_a_message(
    broker: Vhost, times: int, forged: bytes
) -> None:
    # Given a message with forged offsets between two good ones
    good = properties(headers=table([TASK]))
    publish(
        broker, good, properties(headers=table([TASK, *[(b"x-stream-offset", forged)] * times]))
    )
    publish(broker, good)

    # When the stream is read
    with broker.connect() as connection:
        stream = Stream(connection, STREAM, "first")
        entries = list(stream.read(100, timeout=10.0))
        while len(entries) < 3:
            entries += stream.read(100, timeout=10.0)

    # Then each message has the offset of the broker, and the ambiguous one has errors
    first = entries[0].offset
    assert [entry.offset - first for entry in entries] == [0, 1, 2]
    assert not entries[2].message.errors
    assert times == 1 or entries[1].message.errors


@pytest.mark.parametrize("times", [1, 2])
def test_a_publisher_cannot_choose_the_delivery_count(broker: Vhost, times: int) -> None:
    # Given a message with forged counts, whose consumer has lost its connection
    forged = [(b"x-delivery-count", integer(0))] * times
    publish(broker, properties(headers=table([TASK, *forged])))
    with broker.connect() as connection:
        consume(connection.channel(), "inventory.queue", 1)

    # When it arrives again
    with broker.connect() as connection:
        (again,) = consume(connection.channel(), "inventory.queue", 1)

    # Then it has the count of the broker, or is invalid
    assert again.errors or again.headers["x-delivery-count"] == 1


def test_the_broker_rejects_a_body_above_the_limit(broker: Vhost) -> None:
    with wire_publisher(broker) as publisher:
        publisher.publish(EVENTS.name, KEY, properties(), b" " * BODY_LIMIT)
        publisher.settle()
        publisher.publish(EVENTS.name, KEY, properties(), b" " * (BODY_LIMIT + 1))
        with pytest.raises(Refused, match="PRECONDITION_FAILED - message size"):
            publisher.settle()
    becomes(lambda: broker.depth("inventory.queue"), 1)
