"""Copies of past events on a broker that reads nothing from their connection."""

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

#: More than the buffers of a socket and of TLS take.
MANY = [Message("x" * 1_000, delivery_mode=2) for _ in range(40_000)]


@pytest.fixture
def connection(broker: Vhost) -> Iterator[Connection]:
    """A connection on which the broker sends a heartbeat every second."""
    opened = Connection(broker.amqp_url, ssl=broker.tls, heartbeat=2)
    yield opened
    opened.collect(socket_timeout=1)


def test_copying_stops_during_an_alarm_and_keeps_the_connection(
    servers: Infrastructure, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a broker that does not read from publishing connections
    monkeypatch.setattr(copies, "_CONFIRM_TIMEOUT", 2.0)
    ended: list[Exception] = []
    way = Copies(connection, FRAUD.queue)

    def put() -> None:
        try:
            way.put(MANY)
        except Exception as error:
            ended.append(error)

    with servers.limited("set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"):
        # When more copies are sent than the socket takes
        making = Thread(target=put, daemon=True)
        making.start()

        # Then the attempt ends with an error
        eventually(lambda: _assert_ended(making), within=30)
        assert isinstance(ended[0], BrokerBlocks), repr(ended[0])
        with pytest.raises(BrokerBlocks):
            way.put(MANY[:1])

    # And when the alarm is over, the same connection is usable
    def free() -> None:
        way.depth()
        way.put(MANY[:1])

    eventually(free)


def _assert_ended(thread: Thread) -> None:
    assert not thread.is_alive()
