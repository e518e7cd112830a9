"""A relay marks exactly the events that the broker has confirmed."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY, NOTIFICATION
from eventbus.database.db import Sessions, transaction
from eventbus.messaging import publisher
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import (
    CANCELLED,
    CONFIRMED,
    CREATED,
    drain_all,
    event,
    record,
    row_of,
    rows,
    sent,
    state,
)
from testkit.events.messages import event_in, ids, in_queue, sequences, take
from testkit.eventually import eventually, never
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import drain_until, relay_once
from testkit.servers.bindings import bind, full_queue, unbind_everywhere
from testkit.servers.vhosts import Vhost


def test_an_event_is_marked_sent_only_after_its_own_confirm(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given that every third event has no queue, and every third a full one
    unbind_everywhere(broker, CONFIRMED.TYPE)
    full_queue(broker, CANCELLED.TYPE)
    routable, unroutable, refused = (
        record(order_database, *(event(data) for _ in range(100)))
        for data in (CREATED, CONFIRMED, CANCELLED)
    )
    shuffle(order_database)

    # When they are published
    confirmed = relay_once(Relay(order_database, publisher_of()))

    # Then only the confirmed third is marked
    by_id = rows(order_database)
    assert confirmed == 100
    assert set(sent(order_database)) == set(routable)
    assert {by_id[i].unroutable_reason for i in unroutable} == {
        "orders.topic has no queue for order.confirmed"
    }
    assert {by_id[i].unroutable_reason for i in refused} == {None}
    for event_id in (*unroutable, *refused):
        assert by_id[event_id].next_attempt_at > by_id[event_id].created_at
    assert set(routable) <= set(ids(take(broker, INVENTORY.queue)))


def shuffle(sessions: Sessions) -> None:
    """Shuffle the order in which the events are claimed."""
    with transaction(sessions) as session:
        session.execute(
            text("UPDATE outbox SET next_attempt_at = created_at - random() * interval '1 hour'")
        )


def test_an_event_is_not_marked_before_its_confirm_arrives(
    broker: Vhost, proxy: Proxy, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a connected relay, and a broker whose replies are held back
    relay = Relay(order_database, publisher_of(port=proxy.port))
    record(order_database, event(CONFIRMED))
    assert relay_once(relay) == 1
    proxy.hold_responses()
    (waiting,) = record(order_database, event(CONFIRMED))

    with ThreadPoolExecutor(1) as thread:
        # When the broker has the event
        result = thread.submit(relay_once, relay)
        eventually(lambda: in_queue(broker, NOTIFICATION.queue, 2))

        # Then the event is not marked
        never(lambda: require_unsent(order_database, waiting), during=0.5)
        assert not result.done()

        # When the reply arrives
        proxy.release_responses()

        # Then it is
        assert result.result(timeout=60) == 1
    assert waiting in sent(order_database)


def require_unsent(sessions: Sessions, event_id: UUID) -> None:
    assert row_of(sessions, event_id).sent_at is None


def test_a_late_confirm_is_ignored(
    broker: Vhost,
    proxy: Proxy,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a relay with a short timeout
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT", 0.5)
    relay = Relay(order_database, publisher_of(port=proxy.port))
    (first,) = record(order_database, event(CONFIRMED))
    relay_once(relay)

    # When the confirm of the second event is late
    proxy.hold_responses()
    (second,) = record(order_database, event(CONFIRMED))
    assert relay_once(relay) == 0
    proxy.release_responses()

    # Then the same event is sent again
    assert sent(order_database) == [first]
    assert relay_once(relay) == 1
    assert sent(order_database) == [first, second]
    assert Counter(ids(take(broker, NOTIFICATION.queue))) == {first: 1, second: 2}


@pytest.mark.usefixtures("impatient")
def test_an_unroutable_event_waits_with_its_reason_for_a_queue(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given an event type without a queue
    unbind_everywhere(broker, CONFIRMED.TYPE)
    (event_id,) = record(order_database, event(CONFIRMED))
    relay = Relay(order_database, publisher_of())

    # When the relay publishes an event
    relay_once(relay)

    # Then the event stays, with the reason
    before = row_of(order_database, event_id)
    assert before.sent_at is None
    assert before.unroutable_reason == "orders.topic has no queue for order.confirmed"

    # When it is tried again without a queue
    def tried_again() -> None:
        assert row_of(order_database, event_id).next_attempt_at > before.next_attempt_at

    drain_until(relay, tried_again)

    # Then it still waits, for longer
    assert row_of(order_database, event_id).sent_at is None

    # When a queue is bound
    bind(broker, NOTIFICATION.queue, CONFIRMED.TYPE)
    drain_all(relay, order_database)

    # Then the event arrives
    assert row_of(order_database, event_id).unroutable_reason is None
    assert ids(take(broker, NOTIFICATION.queue)) == [event_id]


@pytest.mark.usefixtures("impatient")
def test_an_unroutable_event_delays_only_its_own_order(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given two orders, one of them with an unroutable event
    unbind_everywhere(broker, CONFIRMED.TYPE)
    stuck, free = uuid4(), uuid4()
    record(
        order_database,
        event(CREATED, stuck, 1),
        event(CONFIRMED, stuck, 2),
        event(CANCELLED, stuck, 3),
        event(CREATED, free, 1),
        event(CANCELLED, free, 2),
    )
    relay = Relay(order_database, publisher_of())

    # When the relay drains
    def others_sent() -> None:
        assert len(sent(order_database)) == 3

    drain_until(relay, others_sent)

    # Then only the events behind the unroutable one wait
    arrived = take(broker, NOTIFICATION.queue)
    assert sequences(arrived) == {stuck: [1], free: [1, 2]}

    # When the event becomes routable
    bind(broker, NOTIFICATION.queue, CONFIRMED.TYPE)
    drain_all(relay, order_database)

    # Then they arrive in order
    assert [event_in(m).sequence for m in take(broker, NOTIFICATION.queue)] == [2, 3]


@pytest.mark.usefixtures("impatient")
def test_a_refused_event_is_sent_when_the_queue_has_room(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a full queue
    full = full_queue(broker, CANCELLED.TYPE)
    stuck, free = uuid4(), uuid4()
    refused, later, other = record(
        order_database,
        event(CANCELLED, stuck, 1),
        event(CREATED, stuck, 2),
        event(CREATED, free, 1),
    )
    relay = Relay(order_database, publisher_of())

    # When the relay drains
    def other_sent() -> None:
        assert row_of(order_database, other).sent_at is not None
        assert row_of(order_database, refused).attempts

    drain_until(relay, other_sent)

    # Then the event stays; it is neither unroutable nor an error of the broker
    row = row_of(order_database, refused)
    assert row.sent_at is None
    assert row.unroutable_reason is None
    assert row.next_attempt_at > row.created_at
    assert row_of(order_database, later).sent_at is None
    relay.drain(time.monotonic())
    assert state(order_database).broker_error is None

    # When the queue has room
    take(broker, full)
    drain_all(relay, order_database)

    # Then the order's events arrive in order
    assert ids(take(broker, full)) == [refused]
    assert sequences(take(broker, INVENTORY.queue))[stuck] == [1, 2]
