"""Relays beside each other, and those that lose a connection or their life."""

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
from testkit.data.messages import ids, in_queue, sequences, take
from testkit.data.outboxes import CONFIRMED, CREATED, drain_all, event, record, rows, sent
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import relay_once
from testkit.servers.connections import connections, one_connection
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost

# --- Several relays -----------------------------------------------------------------------------


def test_two_relays_send_each_event_once_and_each_orders_events_in_order(
    broker: Vhost,
    publisher_of: PublisherOf,
    database_of: Callable[[str], TestDatabase],
) -> None:
    # given 2000 events of 200 orders, and two relays with connections of their own
    database = database_of("order").service_settings
    engines = [db.engine(database, pool_size=2) for _ in range(2)]
    first, second = (db.sessions(engine) for engine in engines)
    orders = [uuid4() for _ in range(200)]
    record(first, *(event(CREATED, order, n) for n in range(1, 11) for order in orders))

    # when
    with ThreadPoolExecutor(2) as threads:
        for done in [
            threads.submit(drain_all, Relay(sessions, publisher_of()), sessions)
            for sessions in (first, second)
        ]:
            done.result()

    # then
    recorded = rows(first)
    for engine in engines:
        engine.dispose()
    for queue in (INVENTORY.queue, NOTIFICATION.queue):
        arrived = take(broker, queue)
        assert Counter(ids(arrived)) == dict.fromkeys(recorded, 1)
        assert sequences(arrived) == {order: list(range(1, 11)) for order in orders}


def test_while_one_relay_is_at_work_another_sends_nothing(
    broker: Vhost, proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given one that waits for its confirms
    working = Relay(order_database, publisher_of(port=proxy.port))
    record(order_database, event(CONFIRMED))
    relay_once(working)
    proxy.hold_answers()
    record(order_database, event(CONFIRMED))
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(relay_once, working)
        eventually(lambda: in_queue(broker, NOTIFICATION.queue, 2))

        # when
        other = Relay(order_database, publisher_of())
        other.drain(time.monotonic() + 0.3)

        # then
        in_queue(broker, NOTIFICATION.queue, 2)
        proxy.pass_answers()
        assert answer.result(timeout=10) == 1


# --- Broken connections and dying relays --------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_nothing_is_lost_when_the_broker_closes_the_connection_in_the_middle(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given a relay that is connected, and much to do
    relaying = Relay(order_database, publisher_of())
    record(order_database, event(CONFIRMED))
    relay_once(relaying)
    (name,) = eventually(lambda: one_connection(broker))
    orders = [uuid4() for _ in range(300)]
    record(order_database, *(event(CONFIRMED, order, n) for n in range(1, 11) for order in orders))

    # when
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(drain_all, relaying, order_database)
        eventually(lambda: some_sent(order_database))
        broker.request("DELETE", f"/connections/{quote(name, safe='')}")
        in_the_middle = len(sent(order_database)) < 3001
        done.result(timeout=60)

    # then
    assert in_the_middle
    eventually(lambda: another_connection(broker, name))
    arrived = take(broker, NOTIFICATION.queue)
    assert set(ids(arrived)) == set(rows(order_database))
    found = sequences(arrived)
    assert all(found[order] == list(range(1, 11)) for order in orders)


def another_connection(broker: Vhost, name: str) -> None:
    assert set(connections(broker)) - {name}


def some_sent(sessions: Sessions) -> None:
    assert len(sent(sessions)) > 1


class Killed(Exception):
    """The relay's process is gone."""


class Dying:
    """Publishes, and then something happens before the relay can mark what was confirmed."""

    def __init__(self, real: Publisher, happens: Callable[[], object]) -> None:
        self._real = real
        self._happens = happens

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        return self._real.send(batch, aside=aside)

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        report = self._real.settle(in_flight, until)
        self._happens()
        return report

    def ready(self, until: float) -> bool:
        return self._real.ready(until)

    def heartbeat(self) -> None:
        self._real.heartbeat()


def test_what_a_killed_relay_could_not_mark_is_sent_again_as_the_same_events(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    def die() -> None:
        raise Killed

    recorded = record(order_database, *(event(CREATED) for _ in range(20)))
    with pytest.raises(Killed):
        relay_once(Relay(order_database, Dying(publisher_of(), die)))
    assert sent(order_database) == []

    # when
    assert relay_once(Relay(order_database, publisher_of())) == 20

    # then
    assert sent(order_database) == recorded
    arrived = take(broker, INVENTORY.queue)
    assert Counter(ids(arrived)) == dict.fromkeys(recorded, 2)
    assert {str(i) for i in recorded} == {message.headers["id"] for message in arrived}


def test_a_relay_that_hangs_gives_way_to_another(
    broker: Vhost, publisher_of: PublisherOf, database_of: Callable[[str], TestDatabase]
) -> None:
    # given one that hangs after a confirm, on a database whose patience with it is shorter
    settings = database_of("order").service_settings
    session = {
        name: "200ms" if name == "idle_session_timeout" else value
        for name, value in relay.SESSION.items()
    }
    engine = db.engine(settings, pool_size=5, session=session)
    sessions = db.sessions(engine)
    (event_id,) = record(sessions, event(CREATED))
    go_on = Flag()
    with ThreadPoolExecutor(1) as thread:
        hangs = Relay(sessions, Dying(publisher_of(), lambda: go_on.wait(30)))
        hanging = thread.submit(relay_once, hangs)
        eventually(lambda: in_queue(broker, INVENTORY.queue, 1))

        # when another one drains
        def sent() -> None:
            Relay(sessions, publisher_of()).drain(time.monotonic() + 0.2)
            assert rows(sessions)[event_id].sent_at

        # then
        eventually(sent)
        go_on.set()
        with pytest.raises(DBAPIError):
            hanging.result(timeout=10)
    engine.dispose()


def test_a_relay_survives_that_the_database_closes_its_connection(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    database_of: Callable[[str], TestDatabase],
) -> None:
    # given a relay whose connection is closed once, between confirm and mark
    closed: list[int] = []

    def close_once() -> None:
        if not closed:
            with transaction(order_database) as session:
                closed.extend(session.scalars(text(_CLOSE_WHO_DRAINS)))

    (event_id,) = record(order_database, event(CREATED))
    relaying = Relay(order_database, Dying(publisher_of(), close_once))

    # when
    relaying.drain(time.monotonic() + 0.5)

    # then
    assert len(closed) == 1
    assert sent(order_database) == []

    # and when the next tick comes
    relaying.drain(time.monotonic() + 0.5)

    # then
    assert sent(order_database) == [event_id]
    assert ids(take(broker, INVENTORY.queue)) == [event_id, event_id]


_CLOSE_WHO_DRAINS = """
    SELECT pg_terminate_backend(pid)::int FROM pg_locks
    WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def test_an_idle_relay_keeps_its_connection(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given a connection that either side closes after four seconds of silence
    relaying = Relay(order_database, publisher_of(heartbeat=2))
    record(order_database, event(CREATED))
    relay_once(relaying)
    (name,) = eventually(lambda: one_connection(broker))

    # when it has nothing to do for longer, tick after tick
    for _ in range(7):
        relaying.drain(time.monotonic() + 1)

    # then
    record(order_database, event(CREATED))
    assert relay_once(relaying) == 1
    assert connections(broker) == [name]
