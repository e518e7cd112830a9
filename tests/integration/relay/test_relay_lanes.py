"""Events that the broker does not take wait in lanes: few copies, and nothing else waits."""

import time
from collections import Counter
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY, NOTIFICATION
from eventbus.database.db import Sessions, transaction
from eventbus.messaging import publisher
from eventbus.outbox import lanes
from eventbus.outbox.relay import Relay
from testkit.data.messages import ids, sequences, take
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
)
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import draining, relay_once
from testkit.servers.bindings import bind, full_queue, nobody_takes
from testkit.servers.connections import one_connection
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ten minutes be ten seconds."""
    monkeypatch.setattr(lanes, "FIRST_DELAY", 1 / 60)
    monkeypatch.setattr(lanes, "LONGEST_DELAY", 1.0)


def all_sent(sessions: Sessions) -> None:
    assert len(sent(sessions)) == len(rows(sessions))


@pytest.mark.usefixtures("hasty")
def test_a_full_queue_costs_healthy_queues_a_tenth_at_most(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    full = full_queue(broker, CANCELLED.TYPE)
    recorded: list[UUID] = []

    # when events come for ten scaled minutes, and then the queue has room
    with draining(Relay(order_database, publisher_of())):
        began = time.monotonic()
        while time.monotonic() < began + 10:
            recorded += record(order_database, *(event(CANCELLED) for _ in range(5)))
            time.sleep(0.1)
        refused = len(recorded) - len(sent(order_database))
        broker.request("DELETE", f"/queues/{broker.name}/{full}")
        eventually(lambda: all_sent(order_database))

    # then
    assert refused == len(recorded)
    arrived = Counter(ids(take(broker, INVENTORY.queue)))
    assert arrived.keys() == set(recorded)
    assert arrived.total() <= 1.1 * len(recorded)


def test_a_full_queue_keeps_no_other_type_waiting(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given a refused event of one type
    full_queue(broker, CANCELLED.TYPE)
    relaying = Relay(order_database, publisher_of())
    (refused,) = record(order_database, event(CANCELLED))
    relay_once(relaying)

    # when more of it and others are recorded
    record(order_database, *(event(CANCELLED) for _ in range(1_000)))
    others = record(order_database, *(event(CREATED) for _ in range(20)))
    eventually(lambda: all_of(others, relaying, order_database))

    # then the others are sent, and of the refused type one event was tried
    tried = {event_id for event_id, row in rows(order_database).items() if row.attempts}
    assert tried == {refused}


def all_of(events: list[UUID], relaying: Relay, sessions: Sessions) -> None:
    relaying.drain(time.monotonic() + 0.2)
    assert sent(sessions) == events


def test_a_backlog_of_a_refused_type_is_sent_when_its_queue_has_room(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    full = full_queue(broker, CANCELLED.TYPE)
    order = uuid4()
    record(order_database, event(CREATED, order, 1), event(CANCELLED, order, 2))
    recorded = record(order_database, *(event(CANCELLED) for _ in range(1_500)))
    relaying = Relay(order_database, publisher_of())
    relaying.drain(time.monotonic() + 1)
    assert len(sent(order_database)) == 1

    # when
    broker.request("DELETE", f"/queues/{broker.name}/{full}")
    with draining(relaying):
        eventually(lambda: all_sent(order_database))

    # then each came, and those of the first two batches twice
    arrived = Counter(ids(take(broker, NOTIFICATION.queue)))
    assert set(recorded) < arrived.keys()
    assert arrived.total() <= 1_502 + 1_000 + 10


def test_a_new_relay_tries_one_event_of_a_refused_type(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    full_queue(broker, CANCELLED.TYPE)
    record(order_database, *(event(CANCELLED) for _ in range(50)))
    relay_once(Relay(order_database, publisher_of()))
    record(order_database, *(event(CANCELLED) for _ in range(50)))
    before = len(take(broker, INVENTORY.queue))

    # when
    Relay(order_database, publisher_of()).drain(time.monotonic() + 1.5)

    # then
    assert before == 50
    assert broker.depth(INVENTORY.queue) <= 3


@pytest.mark.usefixtures("impatient")
def test_later_events_of_an_order_follow_a_refused_one_in_their_order(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given orders whose first event is refused, and whose second one is not
    full = full_queue(broker, CREATED.TYPE)
    orders = [uuid4() for _ in range(20)]
    record(order_database, *(event(CREATED, order, 1) for order in orders))
    record(order_database, *(event(CANCELLED, order, 2) for order in orders))
    record(order_database, *(event(CONFIRMED, order, 3) for order in orders))
    relaying = Relay(order_database, publisher_of())
    relaying.drain(time.monotonic() + 0.5)
    waiting = Counter(row.waits_for for row in rows(order_database).values())
    assert waiting == {CREATED.TYPE: 20, lanes.BEHIND: 40}

    # when
    take(broker, full)
    broker.request("DELETE", f"/queues/{broker.name}/{full}")
    drain_all(relaying, order_database)

    # then
    found = sequences(take(broker, NOTIFICATION.queue))
    assert found == {order: [1, 2, 3] for order in orders}


def test_attempts_are_counted_and_further_apart_each_time(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # given
    nobody_takes(broker, CONFIRMED.TYPE)
    (event_id,) = record(order_database, event(CONFIRMED))
    relaying = Relay(order_database, publisher_of())

    # when
    relay_once(relaying)
    first = row_of(order_database, event_id)
    eventually(lambda: attempts(relaying, order_database, event_id, 4))

    # then
    fourth = row_of(order_database, event_id)
    assert first.attempts == 1
    wait = (fourth.next_attempt_at - first.created_at).total_seconds()
    assert wait > 0.5 + 1 + 2 + 4
    assert fourth.waits_for == CONFIRMED.TYPE


def attempts(relaying: Relay, sessions: Sessions, event_id: UUID, count: int) -> None:
    relaying.drain(time.monotonic() + 0.5)
    assert row_of(sessions, event_id).attempts >= count


@pytest.mark.parametrize(
    "state",
    [
        "next_attempt_at = now() + interval '1 hour'",
        "next_attempt_at = now() + interval '1 hour', created_at = now() + interval '1 hour'",
        "next_attempt_at = now() + interval '1 hour', attempts = 3, waits_for = type",
        "next_attempt_at = now() + interval '1 hour', attempts = 3, waits_for = '(repair)'",
    ],
)
def test_no_event_waits_for_a_clock_that_was_ahead(
    broker: Vhost, publisher_of: PublisherOf, order_database: Sessions, state: str
) -> None:
    # given an event that a database whose clock is an hour ahead has recorded, or postponed
    (event_id,) = record(order_database, event(CREATED))
    with transaction(order_database) as session:
        session.execute(text(f"UPDATE outbox SET {state}"))

    # when
    drain_all(Relay(order_database, publisher_of()), order_database)

    # then
    assert ids(take(broker, INVENTORY.queue)) == [event_id]


def test_a_queue_that_does_not_answer_keeps_no_other_type_waiting(
    servers: Infrastructure,
    broker: Vhost,
    publisher_of: PublisherOf,
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a queue whose process does nothing, as one without a quorum
    monkeypatch.setattr(publisher, "CONFIRM_TIMEOUT", 1.0)
    queue = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
    broker.request("PUT", f"/queues/{broker.name}/stuck", json=queue)
    bind(broker, "stuck", CANCELLED.TYPE)
    relaying = Relay(order_database, publisher_of())
    process = f"'{broker.name}_stuck'"
    with servers.limited("eval", f"sys:suspend({process}).", f"sys:resume({process})."):
        recorded = record(order_database, *(event(CANCELLED) for _ in range(10)))
        relaying.drain(time.monotonic() + 0.5)
        (connection,) = eventually(lambda: one_connection(broker))

        # when
        others = record(order_database, *(event(CREATED) for _ in range(20)))
        eventually(lambda: all_of(others, relaying, order_database))

        # then
        waiting = Counter(row.waits_for for row in rows(order_database).values())
        assert waiting == {None: 20, CANCELLED.TYPE: 10}

    # and when the queue answers again
    drain_all(relaying, order_database)

    # then
    assert set(ids(take(broker, "stuck"))) == set(recorded)
    assert one_connection(broker) == [connection]
