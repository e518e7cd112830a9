"""A message that may be lost is dropped rather than waited for."""

import logging
import time
from collections.abc import Iterator

import pytest
from amqp import Message
from kombu.connection import Connection

from eventbus import tls
from eventbus.messaging import best_effort_publisher
from eventbus.messaging.best_effort_publisher import BestEffortPublisher
from testkit.eventually import eventually
from testkit.network.stalling import StallingProxy
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def way(servers: Infrastructure) -> Iterator[StallingProxy]:
    with StallingProxy.to(servers.amqp_port) as way:
        yield way


@pytest.fixture
def publisher(
    broker: Vhost, servers: Infrastructure, way: StallingProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BestEffortPublisher]:
    """A publisher of the user `order` that reconnects at once."""
    monkeypatch.setattr(best_effort_publisher, "CONNECT_INTERVAL", 0.0)
    password = (servers.secrets_dir / "order.broker").read_text().strip()

    def connect() -> Connection:
        return Connection(
            f"amqps://order:{password}@127.0.0.1:{way.port}/{broker.name}",
            ssl=tls.amqp_options(broker.ca_file, "127.0.0.1"),
            heartbeat=30,
        )

    publisher = BestEffortPublisher(connect, name="test")
    yield publisher
    publisher.close()


def publish(publisher: BestEffortPublisher, *, exchange: str = "celeryev", size: int = 10) -> None:
    publisher.publish(Message("x" * size), exchange=exchange, routing_key="task.multi")


def duration(publisher: BestEffortPublisher, *, size: int) -> float:
    """Publish a message, and return the duration in seconds."""
    started = time.monotonic()
    publish(publisher, size=size)
    return time.monotonic() - started


def test_a_message_reaches_a_bound_queue(publisher: BestEffortPublisher, broker: Vhost) -> None:
    # Given a bound queue
    with broker.connect() as connection:
        channel = connection.default_channel
        queue = channel.queue_declare(exclusive=True).queue
        channel.queue_bind(queue, "celeryev", "#")

        # When a message is published
        publish(publisher)

        # Then it is in the queue
        eventually(lambda: _is_there(channel.basic_get(queue, no_ack=True)))


def test_a_stalled_connection_does_not_block_publishing(
    publisher: BestEffortPublisher, way: StallingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a publisher with a long limit for writes
    monkeypatch.setattr(best_effort_publisher, "PATIENCE", 60.0)
    publish(publisher)
    way.stall()

    # When far more is published than any buffer holds
    longest = max(duration(publisher, size=10_000) for _ in range(3_000))

    # Then no call took long
    assert longest < 30


def test_rejected_messages_are_logged_once(
    publisher: BestEffortPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    # Given an exchange without permission for this user
    caplog.set_level(logging.INFO, "eventbus.messaging.best_effort_publisher")
    publish(publisher, exchange="orders.ticks")

    # When messages are published
    def logged() -> None:
        publish(publisher, exchange="orders.ticks")
        assert "messages dropped" in caplog.messages
        assert caplog.messages.count("messages dropped") == 1

    eventually(logged)

    # Then permitted messages are sent as before
    def published() -> None:
        publish(publisher)
        assert "publishing resumed" in caplog.messages

    eventually(published)


def _is_there(message: Message | None) -> None:
    assert message is not None
