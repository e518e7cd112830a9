"""The unsent events of an outbox are found without passing over all that were sent before."""

import json
from uuid import UUID

import pytest
from sqlalchemy import func, text, update

from eventbus.database.db import Sessions, transaction
from eventbus.messaging.event_message import LARGEST_EVENT
from eventbus.outbox import claim_start
from eventbus.outbox.claim_start import Start
from eventbus.outbox.claims import CLAIM, Claims
from eventbus.outbox.table import append, outbox
from testkit.data.outboxes import CREATED, event, record

#: So many that their entries take a hundred pages of the index.
BACKLOG = 20_000

_MANY = f"""
INSERT INTO outbox (event_id, type, subject, event, next_attempt_at)
SELECT gen_random_uuid(), 'order.created', gen_random_uuid(), '{{}}', now() - interval '1 hour'
FROM generate_series(1, {BACKLOG})
"""


def test_a_claim_does_not_pass_over_a_backlog_that_was_worked_off(
    order_database: Sessions,
) -> None:
    # given a backlog that nobody has vacuumed away
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
            # when
            pages.append(_pages_of_a_claim(claims, 10))
            assert len(claims.claim(10).rows) == 1

        # then the first look of a tick does, and no other
        assert pages[0] > 100 > 20 > pages[1]


def test_a_claim_looks_up_each_order_though_the_last_analyze_saw_nothing_unsent(
    order_database: Sessions,
) -> None:
    # given a table that was vacuumed when all was sent, and then had a thousand events more
    run = order_database.kw["bind"].connect().execution_options(isolation_level="AUTOCOMMIT")
    run.exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = false)")
    run.exec_driver_sql(_MANY)
    run.exec_driver_sql("UPDATE outbox SET sent_at = now()")
    run.exec_driver_sql("VACUUM (ANALYZE) outbox")
    for _ in range(2):
        run.exec_driver_sql("UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL")
        record(order_database, *(event(CREATED) for _ in range(500)))
    run.close()

    # when
    with Claims.of(order_database) as claims:
        assert claims.hold()
        pages = _pages_of_a_claim(claims, 500)
        assert len(claims.claim(500).rows) == 500

    # then it is some pages for each event, and not all of the index for each
    assert pages < 500 * 10


@pytest.mark.parametrize("lane", ["type", "'(earlier event)'"])
@pytest.mark.parametrize("sent", ["NULL", "now()"])
def test_a_claim_does_not_pass_over_what_waits_or_has_waited_in_lanes(
    order_database: Sessions, lane: str, sent: str
) -> None:
    # given a backlog in a lane, or one that was worked off, and nobody has vacuumed
    with transaction(order_database) as session:
        session.connection().exec_driver_sql("ALTER TABLE outbox SET (autovacuum_enabled = false)")
        session.connection().exec_driver_sql(_MANY)
    with transaction(order_database) as session:
        session.connection().exec_driver_sql(f"UPDATE outbox SET waits_for = {lane}")
    with transaction(order_database) as session:
        session.connection().exec_driver_sql(f"UPDATE outbox SET sent_at = {sent}")
    record(order_database, event(CREATED))

    # when
    with Claims.of(order_database) as claims:
        assert claims.hold()
        assert len(claims.claim(10).rows) == 1
        pages = _pages_of_a_claim(claims, 10)

    # then
    assert pages < 20


def test_an_event_of_a_long_transaction_is_claimed_by_the_next_look_from_the_first_row(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(claim_start, "_BACK", 0)
    start = Start()
    with Claims.of(order_database, start) as claims:
        assert claims.hold()

        # when an event of a transaction that began long before is committed late
        with transaction(order_database) as late:
            ids = [event(CREATED) for _ in range(6)]
            append(late, ids[0])
            append(late, ids[1])
            # They are written with the next statement.
            late.execute(text("SELECT"))
            late_ids = [ids[0].id, ids[1].id]
            others = record(order_database, *ids[2:])
            assert claimed(claims) == others
        start_id = start.id

        # then it waits until the relay looks from the first row
        assert claimed(claims) == others
        start.reset()
        assert claimed(claims) == [*late_ids, *others]
        assert start_id > 1


def test_marks_are_kept_when_an_insert_is_under_way(order_database: Sessions) -> None:
    # given an event that was sent, and is marked in the round trip that begins to sleep
    record(order_database, event(CREATED))
    with Claims.of(order_database, Start()) as claims:
        assert claims.hold()
        claims.mark_sent(claims.claim(10).rows)

        # when another transaction holds the doorbell's lock meanwhile
        with transaction(order_database) as inserting:
            append(inserting, event(CREATED))
            inserting.execute(text("SELECT"))
            claims.sleep(0.1)

            # then the mark goes with the next statement
            assert claimed(claims) == []


def claimed(claims: Claims) -> list[UUID]:
    return [row.event_id for row in claims.claim(10).rows]


def _pages_of_a_claim(claims: Claims, limit: int) -> int:
    claim = CLAIM.prepared(claims._connection)
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claim}"
    explained = claims._run(explain, LARGEST_EVENT, claims._start.id, [], limit).scalar()
    plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
