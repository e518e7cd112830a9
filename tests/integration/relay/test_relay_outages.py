"""A relay whose broker is away or short of memory opens few connections and repeats nothing."""

import socket
import time
from collections import Counter
from threading import Thread

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY
from eventbus.database.db import Sessions, transaction
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import CREATED, drain_all, event, record, sent, state
from testkit.events.messages import ids, take
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import drain_until, draining
from testkit.servers.connections import connections, one_connection
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

#: Arguments of `rabbitmqctl`: the command, its value during an alarm, and its usual value.
MEMORY = ("set_vm_memory_high_watermark", "absolute 1MB", "0.6")

#: Seconds between heartbeats, twice which closes a connection; a busy machine may stand still for
#: some. Seconds that an alarm lasts: longer than this limit, and than the one of confirms.
HEARTBEAT = 4
ALARM = 15.0


def drain_for(relay: Relay, seconds: float) -> None:
    """Drain repeatedly for a number of seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        relay.drain(time.monotonic() + 0.5)


def test_a_relay_keeps_its_connection_during_a_memory_alarm(
    servers: Infrastructure, broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a connected relay with a short heartbeat
    recorded = record(order_database, event(CREATED))
    with draining(Relay(order_database, publisher_of(heartbeat=HEARTBEAT))):
        before = eventually(lambda: one_connection(broker))

        # When an alarm lasts longer than the timeouts of confirms and heartbeats
        with servers.limited(*MEMORY):
            recorded += record(order_database, *(event(CREATED) for _ in range(1_500)))
            time.sleep(ALARM)
            during = connections(broker)
            sent_during = len(sent(order_database))
            waiting = state(order_database)

        # Then the connection stays, and the relay reports the alarm
        assert during == before
        assert sent_during < len(recorded)
        assert waiting.broker_error == "the broker is short of memory or disk space"

        # When the alarm ends
        eventually(lambda: require_recovery(order_database, len(recorded)))

    # Then each event has arrived once, on the same connection
    assert connections(broker) == before
    assert Counter(ids(take(broker, INVENTORY.queue))) == dict.fromkeys(recorded, 1)


def require_recovery(sessions: Sessions, count: int) -> None:
    assert len(sent(sessions)) == count
    assert state(sessions).broker_error is None


def test_a_relay_started_during_an_alarm_keeps_its_connection(
    servers: Infrastructure, broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given events
    recorded = record(order_database, *(event(CREATED) for _ in range(200)))
    relay = Relay(order_database, publisher_of(heartbeat=HEARTBEAT))

    # When a relay starts during an alarm
    with servers.limited(*MEMORY):
        drain_for(relay, ALARM)
        assert len(connections(broker)) == 1
        assert sent(order_database) == []

    # Then each event arrives once after it
    drain_all(relay, order_database)
    assert Counter(ids(take(broker, INVENTORY.queue))) == dict.fromkeys(recorded, 1)


class Closing:
    """A server that closes each connection, and counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=60)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            client.close()


@pytest.mark.parametrize("lane", ["NULL", "type", "'(repair)'"])
def test_a_relay_backs_off_while_the_broker_is_away(
    publisher_of: PublisherOf, order_database: Sessions, lane: str
) -> None:
    # Given an event that has never failed, or waits in a lane
    server = Closing()
    record(order_database, event(CREATED))
    with transaction(order_database) as session:
        session.execute(text(f"UPDATE outbox SET waits_for = {lane}"))
    relay = Relay(order_database, publisher_of(port=server.port))

    # When the relay drains for six seconds
    drain_for(relay, 6)
    server.close()

    # Then it connected after about 1, 2 and 4 seconds, with up to half of that as jitter
    assert 2 <= server.connections <= 5


def test_a_relay_without_a_broker_leaves_the_outbox_to_another(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a relay whose broker is away
    server = Closing()
    (event_id,) = record(order_database, event(CREATED))
    relay = Relay(order_database, publisher_of(port=server.port))
    drain_for(relay, 3)
    thread = Thread(target=drain_for, args=(relay, 8))
    thread.start()

    # When another relay, whose broker is not, drains
    other = Relay(order_database, publisher_of())

    def is_sent() -> None:
        assert sent(order_database) == [event_id]

    drain_until(other, is_sent)

    # Then the event is sent once
    thread.join(timeout=60)
    server.close()
    assert ids(take(broker, INVENTORY.queue)) == [event_id]
