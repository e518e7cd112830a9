"""A claim finds the unsent events of an outbox without a scan of the sent ones."""

import json
from uuid import UUID

import pytest
from sqlalchemy import func, text, update

from eventbus.database.db import Sessions, engine_of, transaction
from eventbus.messaging.event_message import LARGEST_EVENT
from eventbus.outbox import claim_start
from eventbus.outbox.claim_start import Start
from eventbus.outbox.claims import Claims
from eventbus.outbox.table import append, outbox
from testkit.data.outboxes import CREATED, event, record

#: Rows whose entries fill a hundred pages of the index.
BACKLOG = 20_000

_MANY = f"""
INSERT INTO outbox (event_id, type, subject, event, next_attempt_at)
SELECT gen_random_uuid(), 'order.created', gen_random_uuid(), '{{}}', now() - interval '1 hour'
FROM generate_series(1, {BACKLOG})
"""


def test_a_claim_does_not_scan_events_that_were_sent(
    order_database: Sessions,
) -> None:
    # Given a sent backlog that was not vacuumed
    with transaction(order_database) as session:
        session.connection().exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = false)")
        session.connection().exec_driver_sql(_MANY)
    with transaction(order_database) as session:
        session.execute(update(outbox).values(sent_at=func.now()))
    record(order_database, event(CREATED))

    with Claims.of(order_database) as claims:
        assert claims.hold()
        pages = []
        for _ in range(2):
            # When the events are claimed twice
            pages.append(_pages_of_a_claim(claims, 10))
            assert len(claims.claim(10).rows) == 1

        # Then only the first claim reads the index from its first entry
        assert pages[0] > 100 > 20 > pages[1]


def test_a_claim_uses_the_index_with_outdated_statistics(
    order_database: Sessions,
) -> None:
    # Given a table that was analyzed while all events were sent, and 1,000 later events
    run = engine_of(order_database).connect().execution_options(isolation_level="AUTOCOMMIT")
    run.exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = false)")
    run.exec_driver_sql(_MANY)
    run.exec_driver_sql("UPDATE outbox SET sent_at = now()")
    run.exec_driver_sql("VACUUM (ANALYZE) outbox")
    for _ in range(2):
        run.exec_driver_sql("UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL")
        record(order_database, *(event(CREATED) for _ in range(500)))
    run.close()

    # When 500 events are claimed
    with Claims.of(order_database) as claims:
        assert claims.hold()
        pages = _pages_of_a_claim(claims, 500)
        assert len(claims.claim(500).rows) == 500

    # Then each event costs some pages, and not the whole index
    assert pages < 500 * 10


@pytest.mark.parametrize("lane", ["type", "'(earlier event)'"])
@pytest.mark.parametrize("sent", ["NULL", "now()"])
def test_a_claim_does_not_scan_present_or_past_lanes(
    order_database: Sessions, lane: str, sent: str
) -> None:
    # Given a backlog that is or was in a lane, without a vacuum since
    with transaction(order_database) as session:
        session.connection().exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = false)")
        session.connection().exec_driver_sql(_MANY)
    with transaction(order_database) as session:
        session.connection().exec_driver_sql(f"UPDATE outbox SET waits_for = {lane}")
    with transaction(order_database) as session:
        session.connection().exec_driver_sql(f"UPDATE outbox SET sent_at = {sent}")
    record(order_database, event(CREATED))

    # When another event is claimed
    with Claims.of(order_database) as claims:
        assert claims.hold()
        assert len(claims.claim(10).rows) == 1
        pages = _pages_of_a_claim(claims, 10)

    # Then few pages are read
    assert pages < 20


def test_a_late_commit_is_claimed_by_the_next_scan_from_the_start(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given claims that do not look back
    monkeypatch.setattr(claim_start, "_BACK", 0)
    start = Start()
    with Claims.of(order_database, start) as claims:
        assert claims.hold()

        # When an event of a long transaction is committed late
        with transaction(order_database) as late:
            events = [event(CREATED) for _ in range(6)]
            append(late, events[0])
            append(late, events[1])
            # The rows are written with the next statement.
            late.execute(text("SELECT"))
            late_ids = [events[0].id, events[1].id]
            others = record(order_database, *events[2:])
            assert claimed(claims) == others
        start_id = start.id

        # Then the event waits until the relay claims from the first row
        assert claimed(claims) == others
        start.reset()
        assert claimed(claims) == [*late_ids, *others]
        assert start_id > 1


def test_marks_survive_a_concurrent_insert(order_database: Sessions) -> None:
    # Given a sent event, to be marked in the round trip that starts a sleep
    record(order_database, event(CREATED))
    with Claims.of(order_database, Start()) as claims:
        assert claims.hold()
        claims.mark_sent(claims.claim(10).rows)

        # When another transaction holds the lock of the wake-up in the meantime
        with transaction(order_database) as inserting:
            append(inserting, event(CREATED))
            inserting.execute(text("SELECT"))
            claims.sleep(0.1)

            # Then the mark is sent with the next statement
            assert claimed(claims) == []


def claimed(claims: Claims) -> list[UUID]:
    return [row.event_id for row in claims.claim(10).rows]


def _pages_of_a_claim(claims: Claims, limit: int) -> int:
    claim = claims._queries.claim.prepared(claims._connection)
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claim}"
    explained = claims._run(explain, LARGEST_EVENT, claims._start.id, [], limit).scalar()
    plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
