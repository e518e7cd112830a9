"""Copies of past events on a broker that reads nothing from their connection."""

from collections.abc import Iterator
from threading import Thread

import pytest
from amqp import Message

from common import copies
from common.amqps import Connection
from common.copies import Copies
from common.kombu_topology import FRAUD
from tests.support.eventually import eventually
from tests.support.infrastructure import Infrastructure
from tests.support.vhosts import Vhost

#: More than the buffers of a socket and of TLS take.
MANY = [Message("x" * 1_000, delivery_mode=2) for _ in range(40_000)]


@pytest.fixture
def connection(broker: Vhost) -> Iterator[Connection]:
    """A connection on which the broker sends a heartbeat every second."""
    opened = Connection(broker.amqp_url, ssl=broker.tls, heartbeat=2)
    yield opened
    opened.collect(socket_timeout=1)


def test_copies_for_a_broker_with_an_alarm_are_given_up_after_the_timeout(
    servers: Infrastructure, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a broker that reads no connection that publishes
    monkeypatch.setattr(copies, "_CONFIRM_TIMEOUT", 2.0)
    ended: list[Exception] = []

    def put() -> None:
        try:
            Copies(connection, FRAUD.queue).put(MANY)
        except Exception as error:
            ended.append(error)

    with servers.limited("set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"):
        # when more copies are made than fit into the socket
        making = Thread(target=put, daemon=True)
        making.start()

        # then the attempt ends by itself
        eventually(lambda: _assert_ended(making), within=30)
    assert isinstance(ended[0], TimeoutError), repr(ended[0])


def _assert_ended(thread: Thread) -> None:
    assert not thread.is_alive()
