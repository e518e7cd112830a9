"""Each wait for the broker has a limit, on a real broker behind a proxy that holds its answers."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp import Message, spec

from common.kombu_topology import STREAM
from eventbus.messaging import amqps
from eventbus.messaging.amqps import Connection
from eventbus.messaging.stream import Stream
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.servers.vhosts import Vhost

#: Seconds that the broker has for an answer in these tests, and between its heartbeats.
LIMIT = 1.5
HEARTBEAT = 2

CALLS: dict[str, Callable[[Connection], Any]] = {
    "a channel is opened": lambda connection: connection.channel(),
    "a channel is closed": lambda connection: connection.default_channel.close(),
    "the connection is closed": lambda connection: connection.connection.close(),
    "a queue is declared": lambda connection: connection.default_channel.queue_declare(
        "inventory.queue", passive=True
    ),
    "a message is fetched": lambda connection: connection.default_channel.basic_get("a queue"),
    "a consumer begins": lambda connection: connection.default_channel.basic_consume("a queue"),
    "a message is confirmed": lambda connection: connection.default_channel.basic_publish_confirm(
        Message("{}"), routing_key="inventory.queue", confirm_timeout=LIMIT
    ),
}


@pytest.fixture
def between(vhost: Vhost) -> Iterator[Proxy]:
    proxy = Proxy(vhost.amqp_port)
    yield proxy
    proxy.stop()


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amqps, "ANSWER_LIMIT", LIMIT)


def connected(vhost: Vhost, port: int | None = None) -> Connection:
    url = vhost.amqp_url.replace(f":{vhost.amqp_port}/", f":{port or vhost.amqp_port}/")
    connection = Connection(url, ssl=vhost.tls, heartbeat=HEARTBEAT)
    connection.ensure_connection(max_retries=0)
    return connection


@pytest.mark.parametrize("call", CALLS)
def test_call_without_an_answer_raises_a_connection_error(
    call: str, vhost: Vhost, between: Proxy
) -> None:
    # Given a connection with a channel, on which the broker falls silent
    connection = connected(vhost, between.port)
    assert connection.default_channel
    between.hold_answers()

    # When something needs its answer, Then that is an error of the connection
    with pytest.raises(connection.connection_errors):
        CALLS[call](connection)
    connection.collect()


def test_heartbeats_do_not_prolong_the_wait_for_an_answer(vhost: Vhost) -> None:
    connection = connected(vhost)
    channel = connection.default_channel
    received = connection.connection.bytes_recv

    # When an answer never comes, while the broker sends a heartbeat every two seconds
    with pytest.raises(TimeoutError):
        channel.wait(spec.Channel.FlowOk)

    # Then the wait has ended, though the connection lives
    assert connection.connection.bytes_recv > received
    assert channel.queue_declare(exclusive=True)
    connection.collect()


def test_heartbeats_do_not_prolong_the_wait_for_a_message(vhost: Vhost) -> None:
    connection = connected(vhost)
    received = connection.connection.bytes_recv

    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=LIMIT)

    assert connection.connection.bytes_recv > received
    connection.collect()


def test_broker_that_reads_nothing_ends_a_write(vhost: Vhost, between: Proxy) -> None:
    connection = connected(vhost, between.port)
    connection.connection.transport.sock.settimeout(LIMIT)
    channel = connection.default_channel
    between.hold_questions()

    with pytest.raises(connection.connection_errors, match="timed out"):
        for _ in range(1_000):
            channel.basic_publish(Message("x" * 100_000), routing_key="a queue")
    connection.collect()


def test_every_connection_limits_its_writes(vhost: Vhost) -> None:
    connection = connected(vhost)

    assert connection.connection.transport.sock.gettimeout() == 10
    connection.release()


def test_stream_that_is_closed_while_it_delivers_logs_nothing(
    broker: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a stream whose messages are on their way to a reader
    with broker.connect(confirm_publish=True) as connection:
        for _ in range(200):
            connection.default_channel.basic_publish(Message("{}" * 500), routing_key=STREAM)
        stream = Stream(connection, STREAM, "first")
        eventually(lambda: stream.read(1, 1.0))

        # When it is closed
        with caplog.at_level(logging.WARNING):
            Stream(connection, STREAM, "first").close()
            stream.close()

    # Then no message is reported that arrived meanwhile
    assert caplog.messages == []
