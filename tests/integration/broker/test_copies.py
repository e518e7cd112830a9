"""Copies of past events while the broker does not read from their connection."""

from collections.abc import Iterator
from threading import Thread

import pytest
from amqp import Message

from common.kombu_topology import FRAUD
from eventbus.catch_up import copies
from eventbus.catch_up.copies import BrokerBlocks, Copies
from eventbus.messaging.amqps import Connection
from testkit.eventually import eventually
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

#: More than the buffers of a socket and of TLS hold.
MANY = [Message("x" * 1_000, delivery_mode=2) for _ in range(40_000)]


@pytest.fixture
def connection(broker: Vhost) -> Iterator[Connection]:
    """A connection on which the broker sends a heartbeat every five seconds."""
    opened = Connection(broker.amqp_url, ssl=broker.tls, heartbeat=10)
    yield opened
    opened.collect(socket_timeout=1)


def test_copying_stops_during_an_alarm_and_keeps_the_connection(
    servers: Infrastructure, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a broker that does not read from publishing connections, and a limit that its heartbeats
    # must not extend
    monkeypatch.setattr(copies, "_CONFIRM_TIMEOUT", 7.0)
    errors: list[Exception] = []

    def put() -> None:
        try:
            writer.put(MANY)
        except Exception as error:
            errors.append(error)

    with servers.limited("set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"):
        # When more copies are sent than the socket takes
        writer = Copies(connection, FRAUD.queue)
        copying = Thread(target=put, daemon=True)
        copying.start()

        # Then the attempt ends with an error
        eventually(lambda: _assert_ended(copying))
        assert isinstance(errors[0], BrokerBlocks), repr(errors[0])
        with pytest.raises(BrokerBlocks):
            writer.put(MANY[:1])

    # And when the alarm is over, the same connection is usable
    def free() -> None:
        writer.depth()
        writer.put(MANY[:1])

    eventually(free)


def _assert_ended(thread: Thread) -> None:
    assert not thread.is_alive()
