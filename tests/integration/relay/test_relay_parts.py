"""Several relays share an outbox: each event is published once, in the order of its subject."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common.kombu_topology import INVENTORY
from eventbus.database import db
from eventbus.database.db import Sessions, engine_of, transaction
from eventbus.messaging.event_message import LARGEST_EVENT
from eventbus.outbox import relay as relays
from eventbus.outbox.claims import Claims
from eventbus.outbox.lag import relay_pass
from eventbus.outbox.relay import Relay
from eventbus.outbox.slots import SLOT, WHOLE, Part
from eventbus.outbox.table import relay_state
from eventbus.settings.outbox import SLOTS
from testkit.data.outboxes import CANCELLED, CREATED, event, orders_of, record, rows, sent
from testkit.events.messages import ids, sequences, take
from testkit.eventually import PATIENCE, eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import draining
from testkit.servers.bindings import full_queue
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost

#: Unsent events of other slots: enough that a scan of them is obvious.
BACKLOG = 20_000

#: Seconds of a drain, more than this test waits for any event.
LONG = 10 * PATIENCE

#: The limit of a claim, of which the share of each slot includes all events of a test.
MANY = 200

_OTHERS = f"""
INSERT INTO outbox (event_id, type, subject, event)
SELECT gen_random_uuid(), 'order.created', subject, '{{}}'
FROM (SELECT gen_random_uuid() AS subject FROM generate_series(1, {2 * BACKLOG})) AS orders
WHERE {SLOT} % 2 = 0
"""


def require_all_sent(sessions: Sessions) -> None:
    assert len(sent(sessions)) == len(rows(sessions))


@contextmanager
def databases(database: TestDatabase, count: int) -> Iterator[list[Sessions]]:
    engines = [db.engine(database.service_settings, session=relays.SESSION) for _ in range(count)]
    try:
        yield [db.sessions(engine) for engine in engines]
    finally:
        for engine in engines:
            engine.dispose()


@pytest.mark.parametrize(
    "parts",
    [
        [Part(0, 4), Part(1, 4), Part(2, 4), Part(3, 4)],
        # The number of parts is being changed: relays of the old and the new number run.
        [Part(0, 2), Part(1, 2), Part(0, 3), Part(1, 3), Part(2, 3)],
        [WHOLE, Part(0, 2), Part(1, 2)],
    ],
    ids=["four", "two and three", "one and two"],
)
def test_relays_of_any_parts_send_each_event_once_and_in_order(
    broker: Vhost,
    publisher_of: PublisherOf,
    database_of: Callable[[str], TestDatabase],
    parts: list[Part],
) -> None:
    # Given relays that change their slots several times a second
    orders = [uuid4() for _ in range(300)]
    with databases(database_of("order"), len(parts) + 1) as (own, *others):
        drained = [
            Relay(sessions, publisher_of(), part=part)
            for sessions, part in zip(others, parts, strict=True)
        ]

        # When events of 300 orders are recorded in the meantime
        with draining(*drained):
            for sequence in range(1, 9):
                record(own, *(event(CREATED, order, sequence) for order in orders))
            eventually(lambda: require_all_sent(own))
        recorded = rows(own)

    # Then each event has arrived once, in the order of its order
    arrived = take(broker, INVENTORY.queue)
    assert Counter(ids(arrived)) == dict.fromkeys(recorded, 1)
    assert sequences(arrived) == {order: list(range(1, 9)) for order in orders}


def test_a_slot_has_one_relay_whatever_the_numbers_of_parts(
    database_of: Callable[[str], TestDatabase],
) -> None:
    with databases(database_of("order"), 4) as (first, second, third, fourth):
        # Given a relay of half of the outbox
        with Claims.of(first, part=Part(1, 2)) as half:
            assert half.hold()

            # Then another relay acquires the slots that are free, and the whole outbox is not free
            with (
                Claims.of(second, part=Part(3, 4)) as quarter,
                Claims.of(third, part=Part(0, 3)) as other,
                Claims.of(fourth) as whole,
            ):
                assert not quarter.hold()
                assert other.hold()
                assert set(other.slots) == set(Part(0, 3).slots) - set(half.slots)
                assert not whole.hold()

        # When it has ended, another relay acquires its slots
        with Claims.of(second, part=Part(3, 4)) as quarter:
            assert quarter.hold()
            assert list(quarter.slots) == list(Part(3, 4).slots)

        # And a relay of the whole outbox excludes all parts
        with Claims.of(third) as whole, Claims.of(second, part=Part(3, 4)) as quarter:
            assert whole.hold()
            assert not quarter.hold()


def test_the_relay_of_a_part_is_succeeded_after_its_death(
    broker: Vhost, publisher_of: PublisherOf, database_of: Callable[[str], TestDatabase]
) -> None:
    with databases(database_of("order"), 3) as (own, dying, successor):
        # Given a relay that publishes events of its part and dies before it marks them
        orders = [uuid4() for _ in range(40)]
        record(own, *(event(CREATED, order, n) for n in (1, 2) for order in orders))
        dead = Relay(dying, publisher_of(), part=Part(1, 2))
        with pytest.raises(DBAPIError), Claims.of(dying, part=Part(1, 2)) as claims:
            assert claims.hold()
            dead._send(claims)
            pid = claims._run("SELECT pg_backend_pid()").scalar()
            _terminate(own, pid)

        # When its successor and the relay of the other part work
        parts = [Relay(successor, publisher_of(), part=Part(n, 2)) for n in range(2)]
        with draining(*parts):
            eventually(lambda: require_all_sent(own))
        recorded = rows(own)

    # Then nothing is lost, and the first arrivals are in order
    arrived = take(broker, INVENTORY.queue)
    assert set(ids(arrived)) == set(recorded)
    assert sequences(arrived) == {order: [1, 2] for order in orders}


def test_rejected_events_of_each_part_are_published_when_there_is_room(
    broker: Vhost,
    publisher_of: PublisherOf,
    database_of: Callable[[str], TestDatabase],
    impatient: None,
) -> None:
    # Given a full queue, and events of two parts that it rejects
    full = full_queue(broker, CANCELLED.TYPE)
    with databases(database_of("order"), 3) as (own, *others):
        recorded = record(own, *(event(CANCELLED) for _ in range(60)))
        parts = [Relay(s, publisher_of(), part=Part(n, 2)) for n, s in enumerate(others)]
        with draining(*parts):
            eventually(lambda: _require_waiting(own, len(recorded)))

            # When it has room
            broker.request("DELETE", f"/queues/{broker.name}/{full}")

            # Then all of them are published
            eventually(lambda: require_all_sent(own))
    assert set(ids(take(broker, INVENTORY.queue))) == set(recorded)


@pytest.mark.parametrize("lane", [None, "order.created", "(earlier event)"])
def test_a_claim_of_a_part_does_not_scan_the_events_of_others(
    order_database: Sessions, lane: str | None
) -> None:
    # Given a table that was analyzed while it was empty, and many events of other slots
    run = engine_of(order_database).connect().execution_options(isolation_level="AUTOCOMMIT")
    run.exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = false)")
    run.exec_driver_sql("ANALYZE outbox")
    run.execute(text(_OTHERS))
    run.execute(text("UPDATE outbox SET waits_for = :lane"), {"lane": lane})
    run.close()
    own = orders_of(order_database, Part(1, 2), 3)
    recorded = record(order_database, *(event(CREATED, order) for order in own))

    with Claims.of(order_database, part=Part(1, 2)) as claims:
        assert claims.hold()

        # When the events of a part are claimed, often enough for a generic plan
        for _ in range(7):
            claims._start.reset()
            assert [row.event_id for row in claims.claim(MANY).rows] == recorded
            assert claims.claim_lane("order.created", MANY) == []
            assert claims.lanes() == {}
            claims._start._next = 0.0

        # Then each query reads few pages for each slot
        queries, slots = claims._queries, list(claims.slots)
        limit = len(slots) * 5
        assert _pages(claims, queries.claim, LARGEST_EVENT, 0, [], MANY, slots, 3) < limit
        assert _pages(claims, queries.lane, LARGEST_EVENT, "order.created", MANY, slots, 3) < limit
        assert _pages(claims, queries.lanes, 60.0, slots) < limit
        assert _pages(claims, queries.due, 0, slots) < limit


def test_an_idle_relay_of_a_part_sleeps_until_its_event(
    publisher_of: PublisherOf, database_of: Callable[[str], TestDatabase]
) -> None:
    # Given relays of two parts, each in a drain that outlasts every wait of this test
    with databases(database_of("order"), 3) as (own, *others), ThreadPoolExecutor(2) as threads:
        parts = [Relay(s, publisher_of(), part=Part(n, 2)) for n, s in enumerate(others)]
        drains = [threads.submit(part.drain, time.monotonic() + LONG) for part in parts]
        orders = [orders_of(own, Part(n, 2), 5) for n in range(2)]

        # When single events of each part arrive
        for order in (order for pair in zip(*orders, strict=True) for order in pair):
            record(own, event(CREATED, order))

            # Then each of them is sent by a drain that was idle
            eventually(lambda: require_all_sent(own))
        assert not any(drain.done() for drain in drains)
        _terminate_others(own)
        for drain in drains:
            drain.result(timeout=PATIENCE)


def test_the_last_pass_is_the_earliest_of_all_parts(
    publisher_of: PublisherOf, order_database: Sessions
) -> None:
    # Given relays of three parts, one of which has stopped
    for number in range(3):
        Relay(order_database, publisher_of(), part=Part(number, 3)).drain(time.monotonic())
    with transaction(order_database) as session:
        session.execute(
            text(
                "UPDATE relay_state SET passed_at = now() - interval '1 minute',"
                " broker_error = 'no route' WHERE id = 3"
            )
        )

    # Then its last pass is reported
    with transaction(order_database) as session:
        last = relay_pass(session)
    assert last
    assert last.seconds_ago >= 60
    assert last.broker_error == "no route"

    # When the outbox has fewer parts, then the stopped relay is forgotten
    Relay(order_database, publisher_of(), part=Part(1, 2)).drain(time.monotonic())
    with transaction(order_database) as session:
        assert {row.id for row in session.execute(relay_state.select())} == {1, 2}
        last = relay_pass(session)
    assert last
    assert last.seconds_ago < 60


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 63, SLOTS])
def test_slots_are_disjoint_and_complete(parts: int) -> None:
    owned = [slot for number in range(parts) for slot in Part(number, parts).slots]

    assert sorted(owned) == list(range(SLOTS))


def _terminate(sessions: Sessions, pid: int) -> None:
    with transaction(sessions) as session:
        session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


def _terminate_others(sessions: Sessions) -> None:
    own = "datname = current_database() AND pid <> pg_backend_pid()"
    with transaction(sessions) as session:
        session.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}"))


def _require_waiting(sessions: Sessions, count: int) -> None:
    assert sum(row.waits_for is not None for row in rows(sessions).values()) == count


def _pages(claims: Claims, query: object, *values: object) -> int:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claims._text(query)}"  # type: ignore[arg-type]
    explained = claims._run(explain, *values).scalar()
    plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
