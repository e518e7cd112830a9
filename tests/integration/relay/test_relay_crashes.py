"""Concurrent relays, lost connections and crashes."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from threading import Event as Flag
from urllib.parse import quote
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.kombu_topology import INVENTORY, NOTIFICATION
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.messaging.publisher import Publisher
from eventbus.outbox import relay
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import CONFIRMED, CREATED, drain_all, event, record, rows, sent
from testkit.events.messages import ids, in_queue, sequences, take
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import drain_until, relay_once
from testkit.servers.connections import connections, one_connection
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost


def test_two_relays_send_each_event_once_and_in_order(
    broker: Vhost,
    publisher_of: PublisherOf,
    database_of: Callable[[str], TestDatabase],
) -> None:
    # Given 2,000 events of 200 orders, and two relays with separate connections
    database = database_of("order").service_settings
    engines = [db.engine(database, pool_size=2) for _ in range(2)]
    first, second = (db.sessions(engine) for engine in engines)
    orders = [uuid4() for _ in range(200)]
    record(first, *(event(CREATED, order, n) for n in range(1, 11) for order in orders))

    # When both relays drain the outbox
    with ThreadPoolExecutor(2) as threads:
        for done in [
            threads.submit(drain_all, Relay(sessions, publisher_of()), sessions)
            for sessions in (first, second)
        ]:
            done.result()

    # Then each event has arrived once, in the order of its order
    recorded = rows(first)
    for engine in engines:
        engine.dispose()
    for queue in (INVENTORY.queue, NOTIFICATION.queue):
        arrived = take(broker, queue)
        assert Counter(ids(arrived)) == dict.fromkeys(recorded, 1)
        assert sequences(arrived) == {order: list(range(1, 11)) for order in orders}


def test_a_second_relay_publishes_nothing_while_the_first_works(
    broker: Vhost, proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a relay that waits for confirms
    working = Relay(order_database, publisher_of(port=proxy.port))
    record(order_database, event(CONFIRMED))
    relay_once(working)
    proxy.hold_responses()
    record(order_database, event(CONFIRMED))
    with ThreadPoolExecutor(1) as thread:
        result = thread.submit(relay_once, working)
        eventually(lambda: in_queue(broker, NOTIFICATION.queue, 2))

        # When another relay drains
        other = Relay(order_database, publisher_of())
        other.drain(time.monotonic() + 0.3)

        # Then nothing more is published
        in_queue(broker, NOTIFICATION.queue, 2)
        proxy.release_responses()
        assert result.result(timeout=60) == 1


@pytest.mark.usefixtures("impatient")
def test_no_event_is_lost_when_the_broker_closes_the_connection(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a connected relay, and a backlog
    relaying = Relay(order_database, publisher_of())
    record(order_database, event(CONFIRMED))
    relay_once(relaying)
    (name,) = eventually(lambda: one_connection(broker))
    orders = [uuid4() for _ in range(300)]
    record(order_database, *(event(CONFIRMED, order, n) for n in range(1, 11) for order in orders))

    # When the broker closes the connection during the drain
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(drain_all, relaying, order_database)
        eventually(lambda: require_some_sent(order_database))
        broker.request("DELETE", f"/connections/{quote(name, safe='')}")
        in_the_middle = len(sent(order_database)) < 3001
        done.result(timeout=60)

    # Then the relay connects again, and every event has arrived in order
    assert in_the_middle
    eventually(lambda: require_another_connection(broker, name))
    arrived = take(broker, NOTIFICATION.queue)
    assert set(ids(arrived)) == set(rows(order_database))
    by_order = sequences(arrived)
    assert all(by_order[order] == list(range(1, 11)) for order in orders)


def require_another_connection(broker: Vhost, name: str) -> None:
    assert set(connections(broker)) - {name}


def require_some_sent(sessions: Sessions) -> None:
    assert len(sent(sessions)) > 1


class Killed(Exception):
    """Stands for the end of the relay's process."""


class Interrupted:
    """A publisher that calls a function before the relay can mark the confirmed events."""

    def __init__(self, real: Publisher, interrupt: Callable[[], object]) -> None:
        self._real = real
        self._interrupt = interrupt

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        return self._real.send(batch, aside=aside)

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        report = self._real.settle(in_flight, until)
        self._interrupt()
        return report

    def ready(self, until: float) -> bool:
        return self._real.ready(until)

    def heartbeat(self) -> None:
        self._real.heartbeat()


def test_unmarked_events_of_a_killed_relay_are_sent_again(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a relay that is killed before it marks the events
    def die() -> None:
        raise Killed

    recorded = record(order_database, *(event(CREATED) for _ in range(20)))
    with pytest.raises(Killed):
        relay_once(Relay(order_database, Interrupted(publisher_of(), die)))
    assert sent(order_database) == []

    # When another relay drains
    assert relay_once(Relay(order_database, publisher_of())) == 20

    # Then the same events have arrived twice
    assert sent(order_database) == recorded
    arrived = take(broker, INVENTORY.queue)
    assert Counter(ids(arrived)) == dict.fromkeys(recorded, 2)
    assert {str(i) for i in recorded} == {message.headers["id"] for message in arrived}


def test_another_relay_takes_over_from_one_that_hangs(
    broker: Vhost, publisher_of: PublisherOf, database_of: Callable[[str], TestDatabase]
) -> None:
    # Given a relay that hanging_relay after a confirm, and a short limit for idle transactions
    settings = database_of("order").service_settings
    session = {
        name: "200ms" if name == "idle_session_timeout" else value
        for name, value in relay.SESSION.items()
    }
    engine = db.engine(settings, pool_size=5, session=session)
    sessions = db.sessions(engine)
    (event_id,) = record(sessions, event(CREATED))
    resume = Flag()
    with ThreadPoolExecutor(1) as thread:
        hanging_relay = Relay(sessions, Interrupted(publisher_of(), lambda: resume.wait(30)))
        hanging = thread.submit(relay_once, hanging_relay)
        eventually(lambda: in_queue(broker, INVENTORY.queue, 1))

        # When another relay drains
        def sent() -> None:
            Relay(sessions, publisher_of()).drain(time.monotonic() + 0.2)
            assert rows(sessions)[event_id].sent_at

        # Then the event is sent, and the first relay fails
        eventually(sent)
        resume.set()
        with pytest.raises(DBAPIError):
            hanging.result(timeout=60)
    engine.dispose()


def test_a_relay_survives_the_loss_of_its_database_connection(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    database_of: Callable[[str], TestDatabase],
) -> None:
    # Given a relay whose database connection is closed once, between confirm and mark
    closed: list[int] = []

    def close_once() -> None:
        if not closed:
            with transaction(order_database) as session:
                closed.extend(session.scalars(text(_CLOSE_DRAINING_CONNECTION)))

    (event_id,) = record(order_database, event(CREATED))
    relaying = Relay(order_database, Interrupted(publisher_of(), close_once))

    # When the relay drains
    def is_sent() -> None:
        assert sent(order_database) == [event_id]

    drain_until(relaying, is_sent)

    # Then the event is marked by the second attempt, and has arrived twice
    assert len(closed) == 1
    assert ids(take(broker, INVENTORY.queue)) == [event_id, event_id]


_CLOSE_DRAINING_CONNECTION = """
    SELECT pg_terminate_backend(pid)::int FROM pg_locks
    WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def test_an_idle_relay_keeps_its_connection(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a relay whose connection either side closes after four seconds without a heartbeat
    relaying = Relay(order_database, publisher_of(heartbeat=2))

    def keeps_its_connection() -> None:
        record(order_database, event(CREATED))
        assert relay_once(relaying) == 1
        (name,) = eventually(lambda: one_connection(broker))

        # When it is idle for longer, in several drains
        for _ in range(7):
            relaying.drain(time.monotonic() + 1)

        # Then the relay publishes on the same connection
        record(order_database, event(CREATED))
        assert relay_once(relaying) == 1
        assert connections(broker) == [name]

    # A machine that stands still for four seconds closes it as well, so one success counts.
    eventually(keeps_its_connection, within=60)
