"""Refused events wait in lanes: few copies are published, and no other event waits."""

import time
from collections import Counter
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY, NOTIFICATION
from eventbus.database.db import Sessions, transaction
from eventbus.messaging import publisher
from eventbus.outbox import lanes
from eventbus.outbox import relay as relays
from eventbus.outbox.relay import Relay
from eventbus.outbox.slots import WHOLE, Part
from testkit.data.outboxes import (
    CANCELLED,
    CONFIRMED,
    CREATED,
    drain_all,
    event,
    orders_of,
    record,
    row_of,
    rows,
    sent,
)
from testkit.events.messages import ids, sequences, take
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import drain_until, draining, relay_once
from testkit.servers.bindings import bind, full_queue, unbind_everywhere
from testkit.servers.connections import one_connection
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale ten minutes down to ten seconds."""
    monkeypatch.setattr(lanes, "FIRST_DELAY", 1 / 60)
    monkeypatch.setattr(lanes, "LONGEST_DELAY", 1.0)


def require_all_sent(sessions: Sessions) -> None:
    assert len(sent(sessions)) == len(rows(sessions))


@pytest.mark.usefixtures("hasty")
def test_a_full_queue_adds_at_most_a_tenth_of_copies_elsewhere(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a full queue
    full = full_queue(broker, CANCELLED.TYPE)
    recorded: list[UUID] = []

    # When events are recorded for ten scaled minutes, and then the queue has room
    with draining(Relay(order_database, publisher_of())):
        started = time.monotonic()
        while time.monotonic() < started + 10:
            recorded += record(order_database, *(event(CANCELLED) for _ in range(5)))
            time.sleep(0.1)
        refused = len(recorded) - len(sent(order_database))
        broker.request("DELETE", f"/queues/{broker.name}/{full}")
        eventually(lambda: require_all_sent(order_database))
        seconds = time.monotonic() - started

    # Then the other queues got few more copies: a tenth of 500 events, which a busy machine may not
    # record in these seconds
    assert refused == len(recorded)
    arrived = Counter(ids(take(broker, INVENTORY.queue)))
    assert arrived.keys() == set(recorded)
    assert arrived.total() - len(recorded) <= max(0.1 * len(recorded), 10 + 2 * seconds)


def test_a_full_queue_does_not_delay_other_types(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a refused event of one type
    full_queue(broker, CANCELLED.TYPE)
    relay = Relay(order_database, publisher_of())
    (refused,) = record(order_database, event(CANCELLED))
    relay_once(relay)

    # When more of that type and events of another are recorded
    record(order_database, *(event(CANCELLED) for _ in range(1_000)))
    others = record(order_database, *(event(CREATED) for _ in range(20)))
    drain_until(relay, lambda: require_sent(others, order_database))

    # Then the others are sent, and of the refused type one event was tried
    tried = {event_id for event_id, row in rows(order_database).items() if row.attempts}
    assert tried == {refused}


def require_sent(events: list[UUID], sessions: Sessions) -> None:
    assert sent(sessions) == events


def test_a_refused_backlog_is_sent_when_its_queue_has_room(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given a backlog behind a full queue
    full = full_queue(broker, CANCELLED.TYPE)
    order = uuid4()
    record(order_database, event(CREATED, order, 1), event(CANCELLED, order, 2))
    recorded = record(order_database, *(event(CANCELLED) for _ in range(1_500)))
    relay = Relay(order_database, publisher_of())

    def one_sent() -> None:
        assert len(sent(order_database)) == 1

    drain_until(relay, one_sent)

    # When the queue is deleted
    broker.request("DELETE", f"/queues/{broker.name}/{full}")
    with draining(relay):
        eventually(lambda: require_all_sent(order_database))

    # Then each event has arrived, and at most the first two batches twice
    arrived = Counter(ids(take(broker, NOTIFICATION.queue)))
    assert set(recorded) < arrived.keys()
    assert arrived.total() <= 1_502 + 1_000 + 10


def test_a_new_relay_tries_one_event_of_a_refused_type(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given refused events, and a relay that has stopped
    full_queue(broker, CANCELLED.TYPE)
    record(order_database, *(event(CANCELLED) for _ in range(50)))
    relay_once(Relay(order_database, publisher_of()))
    record(order_database, *(event(CANCELLED) for _ in range(50)))
    before = len(take(broker, INVENTORY.queue))

    # When a new relay drains
    Relay(order_database, publisher_of()).drain(time.monotonic() + 1.5)

    # Then few events were tried
    assert before == 50
    assert broker.depth(INVENTORY.queue) <= 3


@pytest.mark.usefixtures("impatient")
def test_later_events_of_an_order_follow_a_refused_one_in_order(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given orders whose first event is refused, and whose later ones are not
    full = full_queue(broker, CREATED.TYPE)
    orders = [uuid4() for _ in range(20)]
    record(order_database, *(event(CREATED, order, 1) for order in orders))
    record(order_database, *(event(CANCELLED, order, 2) for order in orders))
    record(order_database, *(event(CONFIRMED, order, 3) for order in orders))
    relay = Relay(order_database, publisher_of())

    def all_wait() -> None:
        waiting = Counter(row.waits_for for row in rows(order_database).values())
        assert waiting == {CREATED.TYPE: 20, lanes.BEHIND: 40}

    drain_until(relay, all_wait)

    # When the queue is deleted
    take(broker, full)
    broker.request("DELETE", f"/queues/{broker.name}/{full}")
    drain_all(relay, order_database)

    # Then each order's events have arrived in order
    by_order = sequences(take(broker, NOTIFICATION.queue))
    assert by_order == {order: [1, 2, 3] for order in orders}


def test_attempts_are_counted_and_back_off(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given an unroutable event
    unbind_everywhere(broker, CONFIRMED.TYPE)
    (event_id,) = record(order_database, event(CONFIRMED))
    relay = Relay(order_database, publisher_of())

    # When the relay tries it four times
    relay_once(relay)
    first = row_of(order_database, event_id)

    def tried_four_times() -> None:
        assert row_of(order_database, event_id).attempts >= 4

    drain_until(relay, tried_four_times)

    # Then the delays have doubled
    fourth = row_of(order_database, event_id)
    assert first.attempts == 1
    wait = (fourth.next_attempt_at - first.created_at).total_seconds()
    assert wait > 0.5 + 1 + 2 + 4
    assert fourth.waits_for == CONFIRMED.TYPE


@pytest.mark.parametrize(
    "state",
    [
        "next_attempt_at = now() + interval '1 hour'",
        "next_attempt_at = now() + interval '1 hour', created_at = now() + interval '1 hour'",
        "next_attempt_at = now() + interval '1 hour', attempts = 3, waits_for = type",
        "next_attempt_at = now() + interval '1 hour', attempts = 3, waits_for = '(repair)'",
    ],
)
def test_a_clock_that_was_ahead_delays_no_event(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions, state: str
) -> None:
    # Given an event that was recorded or postponed by a database whose clock is an hour ahead
    (event_id,) = record(order_database, event(CREATED))
    with transaction(order_database) as session:
        session.execute(text(f"UPDATE outbox SET {state}"))

    # When the relay drains
    drain_all(Relay(order_database, publisher_of()), order_database)

    # Then the event is sent
    assert ids(take(broker, INVENTORY.queue)) == [event_id]


def test_an_unresponsive_queue_does_not_delay_other_types(
    servers: Infrastructure,
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a queue whose process is suspended, like one without a quorum
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT", 1.0)
    queue = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    broker.request("PUT", f"/queues/{broker.name}/stuck", json=queue)
    bind(broker, "stuck", CANCELLED.TYPE)
    relay = Relay(order_database, publisher_of())
    process = f"'{broker.name}_stuck'"
    with servers.limited("eval", f"sys:suspend({process}).", f"sys:resume({process})."):
        recorded = record(order_database, *(event(CANCELLED) for _ in range(10)))
        relay.drain(time.monotonic() + 0.5)
        (connection,) = eventually(lambda: one_connection(broker))

        # When events of another type are recorded
        others = record(order_database, *(event(CREATED) for _ in range(20)))

        # Then they are sent, and the others wait in a lane
        def others_sent() -> None:
            assert sent(order_database) == others
            waiting = Counter(row.waits_for for row in rows(order_database).values())
            assert waiting == {None: 20, CANCELLED.TYPE: 10}

        drain_until(relay, others_sent)

    # When the queue responds again
    drain_all(relay, order_database)

    # Then all events are sent on the same connection
    assert set(ids(take(broker, "stuck"))) == set(recorded)
    assert one_connection(broker) == [connection]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("part", [WHOLE, Part(0, 2)], ids=["whole", "part"])
def test_events_behind_an_event_that_another_relay_has_sent_are_released(
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    part: Part,
) -> None:
    # Given orders whose first event is refused, and whose later ones wait for it
    monkeypatch.setattr(relays, "BEHIND_SCAN", 2)
    full_queue(broker, CREATED.TYPE)
    orders = orders_of(order_database, part, 5)
    record(order_database, *(event(CREATED, order, 1) for order in orders))
    record(order_database, *(event(CANCELLED, order, n) for order in orders for n in (2, 3)))
    relay = Relay(order_database, publisher_of(), part=part)

    def all_wait() -> None:
        waiting = Counter(row.waits_for for row in rows(order_database).values())
        assert waiting == {CREATED.TYPE: 5, lanes.BEHIND: 10}

    drain_until(relay, all_wait)

    # When another relay, which has no lanes, has sent the first event of the last order
    sent_elsewhere = "UPDATE outbox SET sent_at = now(), waits_for = NULL"
    with transaction(order_database) as session:
        session.execute(
            text(f"{sent_elsewhere} WHERE subject = :order AND type = :type"),
            {"order": orders[-1], "type": CREATED.TYPE},
        )

    # Then its later events are sent, and those of the other orders still wait
    def released() -> None:
        found = Counter(row.subject for row in rows(order_database).values() if row.sent_at)
        assert found == {orders[-1]: 3}

    drain_until(relay, released)
    waiting = Counter(row.waits_for for row in rows(order_database).values() if not row.sent_at)
    assert waiting == {CREATED.TYPE: 4, lanes.BEHIND: 8}
