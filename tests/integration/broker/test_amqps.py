"""Every wait for the broker times out, on a real broker behind a proxy that holds replies back."""

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

#: Seconds until the wait for a reply times out, and proxy heartbeats.
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
    "a consumer is started": lambda connection: connection.default_channel.basic_consume("a queue"),
    "a message is confirmed": lambda connection: connection.default_channel.basic_publish_confirm(
        Message("{}"), routing_key="inventory.queue", confirm_timeout=LIMIT
    ),
}


@pytest.fixture
def proxy(vhost: Vhost) -> Iterator[Proxy]:
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
def test_a_call_without_a_reply_raises_a_connection_error(
    call: str, vhost: Vhost, proxy: Proxy
) -> None:
    # Given a connection with a channel, on which the broker sends nothing more
    connection = connected(vhost, proxy.port)
    assert connection.default_channel
    proxy.hold_responses()

    # When a call needs a reply, Then it raises a connection error
    with pytest.raises(connection.connection_errors):
        CALLS[call](connection)
    connection.collect()


def test_heartbeats_do_not_prolong_the_wait_for_a_reply(vhost: Vhost) -> None:
    connection = connected(vhost)
    channel = connection.default_channel
    received = connection.connection.bytes_recv

    # When a reply never arrives, while the broker sends a heartbeat every two seconds
    with pytest.raises(TimeoutError):
        channel.wait(spec.Channel.FlowOk)

    # Then the wait has ended, and the connection is usable
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


def test_a_write_times_out_when_the_broker_does_not_read(vhost: Vhost, proxy: Proxy) -> None:
    connection = connected(vhost, proxy.port)
    connection.connection.transport.sock.settimeout(LIMIT)
    channel = connection.default_channel
    proxy.hold_requests()

    with pytest.raises(connection.connection_errors, match="timed out"):
        for _ in range(1_000):
            channel.basic_publish(Message("x" * 100_000), routing_key="a queue")
    connection.collect()


def test_every_connection_has_a_write_timeout(vhost: Vhost) -> None:
    connection = connected(vhost)

    assert connection.connection.transport.sock.gettimeout() == 10
    connection.release()


def test_a_stream_closed_during_delivery_logs_nothing(
    broker: Vhost, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a stream whose messages are being delivered to a reader
    with broker.connect(confirm_publish=True) as connection:
        for _ in range(200):
            connection.default_channel.basic_publish(Message("{}" * 500), routing_key=STREAM)
        stream = Stream(connection, STREAM, "first")
        eventually(lambda: stream.read(1, 1.0))

        # When the stream is closed
        with caplog.at_level(logging.WARNING):
            Stream(connection, STREAM, "first").close()
            stream.close()

    # Then the messages that arrived in the meantime are not logged
    assert caplog.messages == []
