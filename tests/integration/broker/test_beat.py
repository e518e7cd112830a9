"""Beat on a real broker: it never blocks, and has one connection at a time."""

import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest

from eventbus.messaging import best_effort_publisher
from scheduler.ticks import Ticks
from testkit.eventually import eventually
from testkit.processes.beats import ticks
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

EXCHANGE, QUEUE = "amq.direct", "ticks"


@pytest.fixture
def sending(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    """A sender of ticks that replaces a failed connection at once."""
    monkeypatch.setattr(best_effort_publisher, "CONNECT_INTERVAL", 0.0)
    with ticks(vhost, EXCHANGE) as sender:
        yield sender


def declare(vhost: Vhost, **arguments: object) -> None:
    """Declare and bind the queue for ticks."""
    queue = {"durable": True, "arguments": {"x-max-length": 1} | arguments}
    vhost.request("PUT", f"/queues/{vhost.name}/{QUEUE}", json=queue)
    binding = {"routing_key": QUEUE}
    vhost.request("POST", f"/bindings/{vhost.name}/e/{EXCHANGE}/q/{QUEUE}", json=binding)


def connection_of(sending: Ticks) -> object:
    """Return the current connection."""
    connection = sending._publisher._connection
    return connection and connection.connection


def test_a_refused_tick_replaces_its_connection(sending: Ticks, vhost: Vhost) -> None:
    # Given a queue that is full after the first tick
    declare(vhost, **{"x-overflow": "reject-publish"})
    sending.send(QUEUE)
    eventually(lambda: _holds(vhost, 1))
    first = connection_of(sending)

    # When more ticks are due
    def replaced() -> None:
        sending.send(QUEUE)
        assert connection_of(sending) is not first

    # Then a new connection sends the next one as soon as there is room
    eventually(replaced)
    vhost.request("DELETE", f"/queues/{vhost.name}/{QUEUE}/contents")
    sending.send(QUEUE)
    eventually(lambda: _holds(vhost, 1))


@pytest.mark.parametrize(
    ("command", "limit", "usual"),
    [
        ("set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"),
        ("set_disk_free_limit", "1000000GB", "500MB"),
    ],
)
def test_an_alarm_neither_delays_nor_reconnects_beat(
    sending: Ticks, vhost: Vhost, servers: Infrastructure, command: str, limit: str, usual: str
) -> None:
    # Given a connection that has sent a tick
    declare(vhost)
    sending.send(QUEUE)
    eventually(lambda: _holds(vhost, 1))
    first = connection_of(sending)

    # When the broker blocks publishers
    with servers.limited(command, limit, usual):

        def blocked() -> None:
            sending.send(QUEUE)
            assert sending._publisher._blocked

        eventually(blocked)
        durations = [_duration(lambda: sending.send(QUEUE)) for _ in range(200)]

        # Then ticks do not wait, unless the machine stands still, and the connection is still the
        # first and only one
        assert median(durations) < 1
        assert connection_of(sending) is first
        eventually(lambda: _assert_one_connection(vhost))

    # And it is used again when the alarm is over
    vhost.request("DELETE", f"/queues/{vhost.name}/{QUEUE}/contents")

    def sent() -> None:
        sending.send(QUEUE)
        assert vhost.depth(QUEUE) == 1

    eventually(sent)
    assert connection_of(sending) is first


def test_closing_a_blocked_connection_does_not_block(
    sending: Ticks, servers: Infrastructure
) -> None:
    with servers.limited("set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"):

        def blocked() -> None:
            sending.send(QUEUE)
            assert sending._publisher._blocked

        eventually(blocked)

        assert _duration(sending.close) < 30


def _holds(vhost: Vhost, count: int) -> None:
    assert vhost.depth(QUEUE) == count


def _duration(action: Callable[[], None]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


def _assert_one_connection(vhost: Vhost) -> None:
    # The statistics of the broker are delayed by some seconds.
    connections = vhost.request("GET", f"/vhosts/{vhost.name}/connections").json()
    names = [c.get("client_properties", {}).get("connection_name") for c in connections]
    assert names.count("beat") == 1
