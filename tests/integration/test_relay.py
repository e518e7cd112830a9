"""The relay on a real broker: nothing is lost, skipped or reordered, whatever breaks."""

import json
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from kombu.message import Message
from sqlalchemy import Row, select, text
from sqlalchemy.exc import DBAPIError

from common import codec, db, publisher, relay, tls
from common.db import Sessions, transaction
from common.events import (
    Data,
    Event,
    Line,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    Quantity,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from common.kombu_topology import EVENTS, INVENTORY, NOTIFICATION, ORDER, SERVICES, STREAM, Service
from common.outbox import append, outbox, relay_state
from common.publisher import ConfirmingPublisher, InFlight, Outgoing, Publisher, Report
from common.relay import Relay
from common.settings import BrokerSettings, broker_url
from tests.support.databases import TestDatabase
from tests.support.eventually import eventually, never
from tests.support.infrastructure import Infrastructure
from tests.support.vhosts import Vhost

PublisherOf = Callable[..., ConfirmingPublisher]

ORDERED: dict[str, Any] = {
    "customer_email": "ada@example.com",
    "currency": "EUR",
    "total": 100,
    "lines": (Line(sku="Ä-1", quantity=1, unit_price=100),),
}
HELD = (Quantity(sku="Ä-1", quantity=1),)
SHORT = (Shortage(sku="Ä-1", requested=1, available=0),)
CREATED = OrderCreated(**ORDERED)
CONFIRMED = OrderConfirmed(**ORDERED)
CANCELLED = OrderCancelled(reason="customer", **ORDERED)
DATA: dict[str, Data] = {
    data.TYPE: data
    for data in (
        CREATED,
        CONFIRMED,
        CANCELLED,
        StockReserved(lines=HELD),
        StockRejected(reason="out_of_stock", shortages=SHORT),
        StockReleased(lines=HELD),
    )
}


# --- The broker, and what is between it and the relay -------------------------------------------


@pytest.fixture
def publisher_of(servers: Infrastructure, broker: Vhost) -> Iterator[PublisherOf]:
    """Publishers with a service's own user and rights."""
    with ExitStack() as made:

        def make(
            service: str = "order",
            *,
            port: int = broker.amqp_port,
            password: str | None = None,
            heartbeat: int = 30,
        ) -> ConfirmingPublisher:
            settings = BrokerSettings(
                broker_port=port,
                broker_vhost=broker.name,
                broker_user=service,
                broker_ca_file=broker.ca_file,
                broker_password=password
                or (servers.secrets_dir / f"{service}.broker").read_text().rstrip("\n"),
            )
            new = ConfirmingPublisher(
                broker_url(settings),
                tls=tls.broker_options(settings),
                service=service,
                user=service,
                heartbeat=heartbeat,
            )
            made.callback(new.close)
            return new

        yield make


class Proxy:
    """Stands between a relay and the broker, and may hold back the broker's answers."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._answers = Flag()
        self._answers.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def hold_answers(self) -> None:
        """From now on the broker hears everything and seems to say nothing."""
        self._answers.clear()

    def pass_answers(self) -> None:
        """Pass on what was held back, and everything after it."""
        self._answers.set()

    def cut(self) -> None:
        """Break every connection."""
        for side in self._sockets:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Break every connection and take no other."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.pass_answers()
        for thread in list(self._threads):
            self.cut()
            thread.join(timeout=10)
        for side in self._sockets:
            side.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._broker_port))
                self._sockets += [client, server]
                for thread in (
                    Thread(target=self._copy, args=(client, server, None)),
                    Thread(target=self._copy, args=(server, client, self._answers)),
                ):
                    self._threads.append(thread)
                    thread.start()

    def _copy(self, source: socket.socket, target: socket.socket, gate: Flag | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if gate:
                    gate.wait()
                target.sendall(data)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(broker: Vhost) -> Iterator[Proxy]:
    """A proxy in front of the broker."""
    between = Proxy(broker.amqp_port)
    yield between
    between.stop()


def unbind(broker: Vhost, queue: str, event_type: str) -> None:
    broker.request("DELETE", f"{binding(broker, queue)}/{event_type}")


def nobody_takes(broker: Vhost, event_type: str) -> None:
    """Unbind a type that one service consumes, from the stream, too."""
    for queue in (NOTIFICATION.queue, STREAM):
        unbind(broker, queue, event_type)


def bind(broker: Vhost, queue: str, event_type: str) -> None:
    broker.request("POST", binding(broker, queue), json={"routing_key": event_type})


def binding(broker: Vhost, queue: str) -> str:
    return f"/bindings/{broker.name}/e/{EVENTS.name}/q/{queue}"


def full_queue(broker: Vhost, event_type: str) -> str:
    """Bind a queue of the test's own, with room for one message, and fill it."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    queue = {"durable": True, "arguments": arguments}
    broker.request("PUT", f"/queues/{broker.name}/full", json=queue)
    broker.publish(b"0", exchange="", routing_key="full", headers={})
    bind(broker, "full", event_type)
    return "full"


def take(broker: Vhost, queue: str) -> list[Message]:
    """Take every message out of a queue, oldest first."""
    taken: list[Message] = []
    with broker.connect() as connection:
        channel = connection.channel()
        count = channel.queue_declare(queue, passive=True).message_count
        channel.basic_consume(queue, no_ack=True, callback=taken.append)
        while len(taken) < count:
            connection.drain_events(timeout=10)
    return taken


def ids(messages: Iterable[Message]) -> list[UUID]:
    return [UUID(message.properties["message_id"]) for message in messages]


def event_in(message: Message) -> Event:
    return codec.decode(json.loads(message.body)[1]["event"])


def sequences(messages: Iterable[Message]) -> dict[UUID, list[int]]:
    """Return each order's sequence numbers in the order of their first arrival."""
    found: dict[UUID, list[int]] = defaultdict(list)
    for event in map(event_in, messages):
        if event.sequence not in found[event.subject]:
            found[event.subject].append(event.sequence)
    return found


def connections(broker: Vhost) -> list[str]:
    """Return the names of the relay's connections."""
    return [
        connection["name"]
        for connection in broker.request("GET", f"/vhosts/{broker.name}/connections").json()
        if connection.get("user_provided_name") == "order-relay publisher"
    ]


# --- The outbox ---------------------------------------------------------------------------------


def event(
    data: Data, subject: UUID | None = None, sequence: int = 1, source: str = "order"
) -> Event:
    return Event(
        source=source,
        subject=subject or uuid4(),
        sequence=sequence,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        data=data,
    )


def record(sessions: Sessions, *events: Event) -> list[UUID]:
    """Append events in one transaction; returns their ids."""
    with transaction(sessions) as session:
        for each in events:
            append(session, each)
    return [each.id for each in events]


def rows(sessions: Sessions) -> dict[UUID, Row[Any]]:
    with transaction(sessions) as session:
        found = session.execute(select(outbox).order_by(outbox.c.id)).all()
    return {row.event_id: row for row in found}


def row_of(sessions: Sessions, event_id: UUID) -> Row[Any]:
    return rows(sessions)[event_id]


def sent(sessions: Sessions) -> list[UUID]:
    return [event_id for event_id, row in rows(sessions).items() if row.sent_at]


def drain_all(drained: Relay, sessions: Sessions, *, within: float = 40) -> None:
    """Drain, tick after tick, until nothing is left to send."""
    deadline = time.monotonic() + within
    while len(sent(sessions)) < len(rows(sessions)):
        assert time.monotonic() < deadline
        drained.drain(time.monotonic() + 0.2)


def state(sessions: Sessions) -> Row[Any]:
    with transaction(sessions) as session:
        return session.execute(select(relay_state)).one()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the broker again soon."""
    monkeypatch.setattr(relay, "UNROUTABLE_DELAY", 0.1)
    monkeypatch.setattr(relay, "REFUSED_DELAY", 0.1)
    monkeypatch.setattr(relay, "BROKER_DELAY", 0.05)


# --- What arrives, and where --------------------------------------------------------------------


@pytest.mark.parametrize("service", [ORDER, INVENTORY], ids=lambda s: s.name)
def test_an_event_arrives_in_exactly_the_queues_of_those_who_consume_it(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    inventory_database: Sessions,
    service: Service,
) -> None:
    # given
    sessions = {"order": order_database, "inventory": inventory_database}[service.name]
    events = [event(DATA[name], source=service.name) for name in service.publishes]
    record(sessions, *events)

    # when
    assert Relay(sessions, publisher_of(service.name)).relay_once() == len(events)

    # then
    queues = [queue["name"] for queue in broker.request("GET", f"/queues/{broker.name}").json()]
    # The stream gives nothing away; its own tests read it.
    arrived = {queue: ids(take(broker, queue)) for queue in queues if queue != STREAM}
    expected = {
        consumer.queue: [each.id for each in events if each.type in consumer.consumes]
        for consumer in SERVICES
    }
    assert {queue: found for queue, found in arrived.items() if found} == {
        queue: wanted for queue, wanted in expected.items() if wanted
    }


def test_an_event_is_a_persistent_message_of_its_service_that_anyone_can_read(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    created = event(CREATED)
    record(order_database, created)

    # when
    Relay(order_database, publisher_of()).relay_once()

    # then
    (message,) = take(broker, INVENTORY.queue)
    properties = message.properties
    event_id = str(created.id)
    assert properties["message_id"] == properties["correlation_id"] == event_id
    assert properties["type"] == "order.created"
    assert properties["app_id"] == properties["user_id"] == "order"
    assert properties["delivery_mode"] == 2
    assert "expiration" not in properties
    assert "reply_to" not in properties
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert abs(properties["timestamp"] - created.time.timestamp()) < 60
    # and a plain call of a Celery task
    headers = message.headers
    assert (headers["task"], headers["id"]) == ("order.created", event_id)
    assert (headers["root_id"], headers["retries"]) == (event_id, 0)
    # and the customer's data is in the body alone
    assert "ada" not in json.dumps(headers)
    assert json.loads(message.body)[1]["event"] == json.loads(codec.encode(created))
    assert event_in(message) == created


def test_a_relay_may_not_publish_what_its_service_does_not_say(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    (foreign,) = record(order_database, event(DATA["stock.reserved"]))

    # when
    relaying = Relay(order_database, publisher_of())
    assert relaying.relay_once() == 0

    # then
    assert sent(order_database) == []
    assert broker.depth(ORDER.queue) == 0
    assert row_of(order_database, foreign).sent_at is None


def test_an_event_that_the_broker_objects_to_holds_up_no_other(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given an event that its service may not publish, ahead of others
    (foreign,) = record(order_database, event(DATA["stock.reserved"]))
    others = record(order_database, *(event(CREATED) for _ in range(20)))

    # when
    relaying = Relay(order_database, publisher_of())

    def others_sent() -> None:
        relaying.relay_once()
        assert set(sent(order_database)) == set(others)

    # then the others arrive, and it waits with the reason
    eventually(others_sent)
    waiting = row_of(order_database, foreign)
    assert waiting.sent_at is None
    assert "ACCESS_REFUSED" in waiting.unroutable_reason


# --- Marked when confirmed ----------------------------------------------------------------------


def test_an_event_is_marked_sent_only_when_its_own_confirm_arrived(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given every third event has no queue, and every third a full one
    nobody_takes(broker, CONFIRMED.TYPE)
    full_queue(broker, CANCELLED.TYPE)
    routable, unroutable, refused = (
        record(order_database, *(event(data) for _ in range(100)))
        for data in (CREATED, CONFIRMED, CANCELLED)
    )
    shuffle(order_database)

    # when
    confirmed = Relay(order_database, publisher_of()).relay_once()

    # then
    found = rows(order_database)
    assert confirmed == 100
    assert set(sent(order_database)) == set(routable)
    assert {found[i].unroutable_reason for i in unroutable} == {
        "orders.topic has no queue for order.confirmed"
    }
    assert {found[i].unroutable_reason for i in refused} == {None}
    for event_id in (*unroutable, *refused):
        assert found[event_id].next_attempt_at > found[event_id].created_at
    assert set(routable) <= set(ids(take(broker, INVENTORY.queue)))


def shuffle(sessions: Sessions) -> None:
    """Mix the order in which the events are claimed."""
    with transaction(sessions) as session:
        session.execute(
            text("UPDATE outbox SET next_attempt_at = created_at - random() * interval '1 hour'")
        )


def test_an_event_is_not_marked_while_its_confirm_is_on_its_way(
    broker: Vhost, proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given a relay that is connected to a broker whose answers do not come
    relaying = Relay(order_database, publisher_of(port=proxy.port))
    record(order_database, event(CONFIRMED))
    assert relaying.relay_once() == 1
    proxy.hold_answers()
    (waiting,) = record(order_database, event(CONFIRMED))

    with ThreadPoolExecutor(1) as thread:
        # when the broker has the event
        answer = thread.submit(relaying.relay_once)
        eventually(lambda: in_queue(broker, NOTIFICATION.queue, 2))

        # then
        never(lambda: not_sent(order_database, waiting), during=0.5)
        assert not answer.done()

        # and when it answers
        proxy.pass_answers()

        # then
        assert answer.result(timeout=10) == 1
    assert waiting in sent(order_database)


def in_queue(broker: Vhost, queue: str, count: int) -> None:
    assert broker.depth(queue) == count


def not_sent(sessions: Sessions, event_id: UUID) -> None:
    assert row_of(sessions, event_id).sent_at is None


def test_a_confirm_that_comes_too_late_confirms_nothing(
    broker: Vhost,
    proxy: Proxy,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT", 0.5)
    relaying = Relay(order_database, publisher_of(port=proxy.port))
    (first,) = record(order_database, event(CONFIRMED))
    relaying.relay_once()

    # when the answer to the second does not come in time
    proxy.hold_answers()
    (second,) = record(order_database, event(CONFIRMED))
    assert relaying.relay_once() == 0
    proxy.pass_answers()

    # then it is sent again, as the same event
    assert sent(order_database) == [first]
    assert relaying.relay_once() == 1
    assert sent(order_database) == [first, second]
    assert Counter(ids(take(broker, NOTIFICATION.queue))) == {first: 1, second: 2}


# --- Unroutable ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_an_unroutable_event_waits_with_its_reason_until_somebody_listens(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given nobody listens to confirmations
    nobody_takes(broker, CONFIRMED.TYPE)
    (event_id,) = record(order_database, event(CONFIRMED))
    relaying = Relay(order_database, publisher_of())

    # when
    relaying.relay_once()

    # then it stays, with the reason
    before = row_of(order_database, event_id)
    assert before.sent_at is None
    assert before.unroutable_reason == "orders.topic has no queue for order.confirmed"

    # and when it is tried again in vain
    relaying.drain(time.monotonic() + 0.4)

    # then
    after = row_of(order_database, event_id)
    assert after.sent_at is None
    assert after.next_attempt_at > before.next_attempt_at

    # and when somebody listens
    bind(broker, NOTIFICATION.queue, CONFIRMED.TYPE)
    drain_all(relaying, order_database)

    # then
    assert row_of(order_database, event_id).unroutable_reason is None
    assert ids(take(broker, NOTIFICATION.queue)) == [event_id]


@pytest.mark.usefixtures("impatient")
def test_later_events_of_an_order_wait_for_an_unroutable_one_and_those_of_others_do_not(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    nobody_takes(broker, CONFIRMED.TYPE)
    stuck, free = uuid4(), uuid4()
    record(
        order_database,
        event(CREATED, stuck, 1),
        event(CONFIRMED, stuck, 2),
        event(CANCELLED, stuck, 3),
        event(CREATED, free, 1),
        event(CANCELLED, free, 2),
    )
    relaying = Relay(order_database, publisher_of())

    # when
    relaying.drain(time.monotonic() + 0.5)

    # then
    arrived = take(broker, NOTIFICATION.queue)
    assert sequences(arrived) == {stuck: [1], free: [1, 2]}

    # and when it can be routed
    bind(broker, NOTIFICATION.queue, CONFIRMED.TYPE)
    drain_all(relaying, order_database)

    # then
    assert [event_in(m).sequence for m in take(broker, NOTIFICATION.queue)] == [2, 3]


# --- Refused ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_an_event_that_a_full_queue_refuses_is_sent_when_there_is_room(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    full = full_queue(broker, CANCELLED.TYPE)
    stuck, free = uuid4(), uuid4()
    refused, later, other = record(
        order_database,
        event(CANCELLED, stuck, 1),
        event(CREATED, stuck, 2),
        event(CREATED, free, 1),
    )
    relaying = Relay(order_database, publisher_of())

    # when
    relaying.drain(time.monotonic() + 0.5)

    # then it stays, and is no error of the broker's or the topology's
    row = row_of(order_database, refused)
    assert row.sent_at is None
    assert row.unroutable_reason is None
    assert row.next_attempt_at > row.created_at
    assert row_of(order_database, later).sent_at is None
    assert row_of(order_database, other).sent_at is not None
    relaying.drain(time.monotonic())
    assert state(order_database).broker_error is None

    # and when there is room
    take(broker, full)
    drain_all(relaying, order_database)

    # then
    assert ids(take(broker, full)) == [refused]
    assert sequences(take(broker, INVENTORY.queue))[stuck] == [1, 2]


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
    working.relay_once()
    proxy.hold_answers()
    record(order_database, event(CONFIRMED))
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(working.relay_once)
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
    relaying.relay_once()
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


def one_connection(broker: Vhost) -> list[str]:
    found = connections(broker)
    assert len(found) == 1
    return found


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

    def send(self, batch: Iterable[Outgoing]) -> InFlight:
        return self._real.send(batch)

    def settle(self, in_flight: InFlight) -> Report:
        report = self._real.settle(in_flight)
        self._happens()
        return report

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
        Relay(order_database, Dying(publisher_of(), die)).relay_once()
    assert sent(order_database) == []

    # when
    assert Relay(order_database, publisher_of()).relay_once() == 20

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
        hanging = thread.submit(hangs.relay_once)
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
    relaying.relay_once()
    (name,) = eventually(lambda: one_connection(broker))

    # when it has nothing to do for longer, tick after tick
    for _ in range(7):
        relaying.drain(time.monotonic() + 1)

    # then
    record(order_database, event(CREATED))
    assert relaying.relay_once() == 1
    assert connections(broker) == [name]


# --- Deadlines and state ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3000])
def test_a_drain_ends_with_its_tick(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions, count: int
) -> None:
    # given a connected relay, with less or more to do than it can
    relaying = Relay(order_database, publisher_of())
    record(order_database, event(CREATED))
    relaying.relay_once()
    order_id = uuid4()
    record(order_database, *(event(CREATED, order_id, n) for n in range(1, count + 1)))

    # when
    started = time.monotonic()
    relaying.drain(started + 0.5)

    # then
    assert 0.5 <= time.monotonic() - started < 1.0
    assert len(sent(order_database)) < max(2, count)


def test_a_drain_whose_time_is_over_sends_nothing(
    publisher_of: PublisherOf, order_database: Sessions
) -> None:
    record(order_database, event(CREATED))

    Relay(order_database, publisher_of()).drain(time.monotonic())

    assert sent(order_database) == []
    assert state(order_database).passed_at is not None


def test_a_drain_without_a_broker_ends_with_its_tick(
    proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    proxy.stop()
    record(order_database, event(CREATED))
    relaying = Relay(order_database, publisher_of(port=proxy.port))

    # when
    started = time.monotonic()
    relaying.drain(started + 0.5)

    # then
    assert time.monotonic() - started < 1.0


def test_an_event_leaves_within_a_moment_of_its_commit(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given an idle relay
    relaying = Relay(order_database, publisher_of())
    record(order_database, event(CREATED))
    relaying.relay_once()

    # when events come in while it drains
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(relaying.drain, time.monotonic() + 2)
        for _ in range(10):
            record(order_database, event(CREATED))
            time.sleep(0.1)
        done.result()

    # then
    delays = sorted(row.sent_at - row.created_at for row in rows(order_database).values())
    assert len(sent(order_database)) == 11
    assert delays[5] < timedelta(seconds=0.2)


def test_each_drain_tells_when_it_was(publisher_of: PublisherOf, order_database: Sessions) -> None:
    # given
    relaying = Relay(order_database, publisher_of())
    relaying.drain(time.monotonic() + 0.1)
    first = state(order_database)

    # when
    relaying.drain(time.monotonic() + 0.1)

    # then
    second = state(order_database)
    assert second.passed_at > first.passed_at
    assert (first.broker_error, second.broker_error) == (None, None)


@pytest.mark.usefixtures("impatient")
def test_a_relay_tells_why_the_broker_does_not_let_it_in(
    publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    record(order_database, event(CREATED))
    relaying = Relay(order_database, publisher_of(password="wr0ng"))

    # when
    relaying.drain(time.monotonic() + 0.5)
    relaying.drain(time.monotonic())

    # then
    error = state(order_database).broker_error
    assert "ACCESS_REFUSED" in error
    assert "wr0ng" not in error
    assert sent(order_database) == []


@pytest.mark.usefixtures("impatient")
def test_a_relay_tells_that_the_broker_is_away_and_that_it_is_back(
    broker: Vhost, proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given a broker that lets nobody in
    refusing = broker.request("GET", f"/permissions/{broker.name}/order").json()
    broker.request("DELETE", f"/permissions/{broker.name}/order")
    (event_id,) = record(order_database, event(CREATED))
    relaying = Relay(order_database, publisher_of())

    # when
    relaying.drain(time.monotonic() + 0.3)
    relaying.drain(time.monotonic())

    # then
    assert state(order_database).broker_error
    assert sent(order_database) == []

    # and when it lets it in
    rights = {name: refusing[name] for name in ("configure", "write", "read")}
    broker.request("PUT", f"/permissions/{broker.name}/order", json=rights)
    drain_all(relaying, order_database)
    relaying.drain(time.monotonic())

    # then
    assert state(order_database).broker_error is None
    assert sent(order_database) == [event_id]
