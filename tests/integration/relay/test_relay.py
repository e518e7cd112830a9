"""The relay on a real broker: what arrives, in time, and what it tells of itself."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest

from common.kombu_topology import INVENTORY, ORDER, SERVICES, STREAM
from eventbus.database.db import Sessions
from eventbus.events import codec
from eventbus.outbox.relay import Relay
from eventbus.topology.service import Service
from testkit.data.messages import event_in, ids, take
from testkit.data.outboxes import (
    CREATED,
    DATA,
    drain_all,
    event,
    record,
    row_of,
    rows,
    sent,
    state,
)
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import relay_once
from testkit.servers.vhosts import Vhost

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
    assert relay_once(Relay(sessions, publisher_of(service.name))) == len(events)

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
    relay_once(Relay(order_database, publisher_of()))

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
    assert relay_once(relaying) == 0

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
        relay_once(relaying)
        assert set(sent(order_database)) == set(others)

    # then the others arrive, and it waits with the reason
    eventually(others_sent)
    waiting = row_of(order_database, foreign)
    assert waiting.sent_at is None
    assert "ACCESS_REFUSED" in waiting.unroutable_reason


# --- Deadlines and state ------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3000])
def test_a_drain_ends_with_its_tick(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions, count: int
) -> None:
    # given a connected relay, with less or more to do than it can
    relaying = Relay(order_database, publisher_of())
    record(order_database, event(CREATED))
    relay_once(relaying)
    order_id = uuid4()
    record(order_database, *(event(CREATED, order_id, n) for n in range(1, count + 1)))

    # when
    started = time.monotonic()
    relaying.drain(started + 0.5)

    # then
    assert 0.5 <= time.monotonic() - started < 20
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
    assert time.monotonic() - started < 20


def test_an_event_leaves_within_a_moment_of_its_commit(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given an idle relay
    relaying = Relay(order_database, publisher_of())
    record(order_database, event(CREATED))
    relay_once(relaying)

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
