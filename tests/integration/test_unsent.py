"""The unsent events of an outbox are found without passing over all that were sent before."""

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import func, update

from common.db import Sessions, transaction
from common.outbox import outbox
from common.unsent import _CLAIM, Unsent
from tests.support.outboxes import CREATED, event, record

#: So many that their entries take a hundred pages of the index.
BACKLOG = 20_000

_MANY = f"""
INSERT INTO outbox (event_id, type, subject, event, next_attempt_at)
SELECT gen_random_uuid(), 'order.created', gen_random_uuid(), '{{}}', now() - interval '1 hour'
FROM generate_series(1, {BACKLOG})
"""


def older(sessions: Sessions, event_id: Any, seconds: float) -> None:
    """Let an event be of a transaction that began so many seconds before it."""
    earlier = outbox.c.next_attempt_at - timedelta(seconds=seconds)
    with transaction(sessions) as session:
        session.execute(
            update(outbox).where(outbox.c.event_id == event_id).values(next_attempt_at=earlier)
        )


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

    with Unsent.of(order_database) as unsent:
        assert unsent.hold()
        pages = []
        for _ in range(2):
            # when
            pages.append(_pages_of_a_claim(unsent, 10))
            assert len(unsent.claim(10)) == 1

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
    with Unsent.of(order_database) as unsent:
        assert unsent.hold()
        pages = _pages_of_a_claim(unsent, 500)
        assert len(unsent.claim(500)) == 500

    # then it is some pages for each event, and not all of the index for each
    assert pages < 500 * 10


def test_an_event_of_a_long_transaction_is_claimed_by_the_next_tick(
    order_database: Sessions,
) -> None:
    with Unsent.of(order_database) as unsent:
        # given
        assert unsent.hold()
        (first,) = record(order_database, event(CREATED))
        assert [row.event_id for row in unsent.claim(10)] == [first]

        # when two commit late, one of them very late
        late, very_late = record(order_database, event(CREATED), event(CREATED))
        older(order_database, late, 3)
        older(order_database, very_late, 60)

        # then that one waits for the next tick
        assert [row.event_id for row in unsent.claim(10)] == [late, first]

    with Unsent.of(order_database) as unsent:
        assert unsent.hold()
        assert [row.event_id for row in unsent.claim(10)] == [very_late, late, first]


def _pages_of_a_claim(unsent: Unsent, limit: int) -> int:
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {_CLAIM}"
    explained = unsent._run(explain, unsent._since, [], limit).scalar()
    plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
