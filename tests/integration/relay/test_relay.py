"""The relay on a real broker: delivery, deadlines and recorded state."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from common.kombu_topology import INVENTORY, ORDER, SERVICES, STREAM
from eventbus.database.db import Sessions
from eventbus.events import codec
from eventbus.outbox.relay import Relay
from eventbus.topology.service import Service
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
from testkit.events.messages import event_in, ids, take
from testkit.eventually import becomes, eventually
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import drain_until, relay_once
from testkit.servers.vhosts import Vhost


@pytest.mark.parametrize("service", [ORDER, INVENTORY], ids=lambda s: s.name)
def test_an_event_arrives_in_exactly_the_queues_of_its_consumers(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    inventory_database: Sessions,
    service: Service,
) -> None:
    # Given an event of each type that the service publishes
    sessions = {"order": order_database, "inventory": inventory_database}[service.name]
    events = [event(DATA[name], source=service.name) for name in service.publishes]
    record(sessions, *events)

    # When they are published
    assert relay_once(Relay(sessions, publisher_of(service.name))) == len(events)

    # Then each is in the queues of its consumers, and only there
    queues = [queue["name"] for queue in broker.request("GET", f"/queues/{broker.name}").json()]
    # Messages cannot be removed from the stream; other tests read it.
    arrived = {queue: ids(take(broker, queue)) for queue in queues if queue != STREAM}
    expected = {
        consumer.queue: [each.id for each in events if each.type in consumer.consumes]
        for consumer in SERVICES
    }
    assert {queue: events for queue, events in arrived.items() if events} == {
        queue: events for queue, events in expected.items() if events
    }


def test_an_event_is_a_persistent_message_and_a_celery_task(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given an event
    created = event(CREATED)
    record(order_database, created)

    # When it is published
    relay_once(Relay(order_database, publisher_of()))

    # Then the message has the attributes of the event
    (message,) = take(broker, INVENTORY.queue)
    properties = message.properties
    event_id = str(created.id)
    assert properties["message_id"] == event_id
    assert properties["correlation_id"] == str(created.subject)
    assert properties["type"] == "order.created"
    assert properties["app_id"] == properties["user_id"] == "order"
    assert properties["delivery_mode"] == 2
    assert "expiration" not in properties
    assert "reply_to" not in properties
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert abs(properties["timestamp"] - created.time.timestamp()) < 60
    # And it is a plain call of a Celery task
    headers = message.headers
    assert (headers["task"], headers["id"]) == ("order.created", event_id)
    assert (headers["root_id"], headers["retries"]) == (event_id, 0)
    # And the customer's data is only in the body
    assert "ada" not in json.dumps(headers)
    assert json.loads(message.body)[1]["event"] == json.loads(codec.encode(created))
    assert event_in(message) == created


def test_a_relay_cannot_publish_events_of_another_service(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given an event type of another service
    (foreign,) = record(order_database, event(DATA["stock.reserved"]))

    # When the relay publishes it
    relay = Relay(order_database, publisher_of())
    assert relay_once(relay) == 0

    # Then the event stays unsent
    assert sent(order_database) == []
    becomes(lambda: broker.depth(ORDER.queue), 0)
    assert row_of(order_database, foreign).sent_at is None


def test_a_rejected_event_does_not_block_other_events(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given an event that its service may not publish, ahead of others
    (foreign,) = record(order_database, event(DATA["stock.reserved"]))
    others = record(order_database, *(event(CREATED) for _ in range(20)))

    # When the relay drains the outbox
    relay = Relay(order_database, publisher_of())

    def others_sent() -> None:
        relay_once(relay)
        assert set(sent(order_database)) == set(others)

    # Then the others arrive, and the event stays with the reason
    eventually(others_sent)
    waiting = row_of(order_database, foreign)
    assert waiting.sent_at is None
    assert "ACCESS_REFUSED" in waiting.unroutable_reason


@pytest.mark.parametrize("count", [0, 3000])
def test_a_drain_ends_at_its_deadline(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions, count: int
) -> None:
    # Given a connected relay, with less or more events than it can send
    relay = Relay(order_database, publisher_of())
    record(order_database, event(CREATED))
    relay_once(relay)
    order_id = uuid4()
    record(order_database, *(event(CREATED, order_id, n) for n in range(1, count + 1)))

    # When it drains for half a second
    started = time.monotonic()
    relay.drain(started + 0.5)

    # Then it returns soon after
    assert 0.5 <= time.monotonic() - started < 20
    assert len(sent(order_database)) < max(2, count)


def test_a_drain_after_its_deadline_publishes_nothing(
    publisher_of: PublisherOf, order_database: Sessions
) -> None:
    record(order_database, event(CREATED))

    Relay(order_database, publisher_of()).drain(time.monotonic())

    assert sent(order_database) == []
    assert state(order_database).passed_at is not None


def test_a_drain_without_a_broker_ends_at_its_deadline(
    proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a broker that is away
    proxy.stop()
    record(order_database, event(CREATED))
    relay = Relay(order_database, publisher_of(port=proxy.port))

    # When the relay drains for half a second
    started = time.monotonic()
    relay.drain(started + 0.5)

    # Then it returns soon after
    assert time.monotonic() - started < 20


def test_an_event_is_published_soon_after_its_commit(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    relay = Relay(order_database, publisher_of())

    def half_are_sent_soon() -> None:
        # Given an idle relay
        record(order_database, event(CREATED))
        relay_once(relay)

        # When events are recorded while it drains
        recorded: list[UUID] = []
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(relay.drain, time.monotonic() + 2)
            for _ in range(10):
                recorded += record(order_database, event(CREATED))
                time.sleep(0.1)
            done.result()

        # Then half of them are sent within 0.2 seconds
        stored = [rows(order_database)[event_id] for event_id in recorded]
        delays = sorted(row.sent_at - row.created_at for row in stored if row.sent_at)
        assert len(delays) == 10
        assert delays[5] < timedelta(seconds=0.2)

    # A busy machine takes longer; a relay without wake-ups always does.
    eventually(half_are_sent_soon)


def test_each_drain_records_its_time(publisher_of: PublisherOf, order_database: Sessions) -> None:
    # Given a relay that has drained
    relay = Relay(order_database, publisher_of())
    relay.drain(time.monotonic() + 0.1)
    first = state(order_database)

    # When it drains again
    relay.drain(time.monotonic() + 0.1)

    # Then its time is later
    second = state(order_database)
    assert second.passed_at > first.passed_at
    assert (first.broker_error, second.broker_error) == (None, None)


@pytest.mark.usefixtures("impatient")
def test_a_relay_records_why_the_broker_rejects_its_login(
    publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a wrong password
    record(order_database, event(CREATED))
    relay = Relay(order_database, publisher_of(password="wr0ng"))

    # When the relay drains
    def refused() -> str:
        error: str = state(order_database).broker_error or ""
        assert "ACCESS_REFUSED" in error
        return error

    error = drain_until(relay, refused)

    # Then the error is recorded without the password
    assert "wr0ng" not in error
    assert sent(order_database) == []


@pytest.mark.usefixtures("impatient")
def test_a_relay_records_missing_permissions_until_they_are_restored(
    broker: Vhost, proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a broker on which the relay has no permissions
    permissions = broker.request("GET", f"/permissions/{broker.name}/order").json()
    broker.request("DELETE", f"/permissions/{broker.name}/order")
    (event_id,) = record(order_database, event(CREATED))
    relay = Relay(order_database, publisher_of())

    # When the relay drains
    def refused() -> None:
        assert state(order_database).broker_error

    # Then an error is recorded
    drain_until(relay, refused)
    assert sent(order_database) == []

    # When the permissions are restored
    rights = {name: permissions[name] for name in ("configure", "write", "read")}
    broker.request("PUT", f"/permissions/{broker.name}/order", json=rights)
    drain_all(relay, order_database)
    relay.drain(time.monotonic())

    # Then the error is cleared
    assert state(order_database).broker_error is None
    assert sent(order_database) == [event_id]
