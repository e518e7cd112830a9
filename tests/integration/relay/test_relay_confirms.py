"""A relay marks what the broker has confirmed, and nothing else."""

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
from testkit.data.messages import event_in, ids, in_queue, sequences, take
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
from testkit.eventually import eventually, never
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import relay_once
from testkit.servers.bindings import bind, full_queue, nobody_takes
from testkit.servers.vhosts import Vhost

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
    confirmed = relay_once(Relay(order_database, publisher_of()))

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
    assert relay_once(relaying) == 1
    proxy.hold_answers()
    (waiting,) = record(order_database, event(CONFIRMED))

    with ThreadPoolExecutor(1) as thread:
        # when the broker has the event
        answer = thread.submit(relay_once, relaying)
        eventually(lambda: in_queue(broker, NOTIFICATION.queue, 2))

        # then
        never(lambda: not_sent(order_database, waiting), during=0.5)
        assert not answer.done()

        # and when it answers
        proxy.pass_answers()

        # then
        assert answer.result(timeout=10) == 1
    assert waiting in sent(order_database)


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
    relay_once(relaying)

    # when the answer to the second does not come in time
    proxy.hold_answers()
    (second,) = record(order_database, event(CONFIRMED))
    assert relay_once(relaying) == 0
    proxy.pass_answers()

    # then it is sent again, as the same event
    assert sent(order_database) == [first]
    assert relay_once(relaying) == 1
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
    relay_once(relaying)

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
