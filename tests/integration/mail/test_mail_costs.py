"""The reads of the mailer and its metrics are bounded despite history, backlog and dead entries."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from eventbus.database.db import BY_KEY, Sessions, engine, engine_of, sessions
from notification_worker import claims, mail_queue, metrics
from notification_worker.claims import SHORTLY, Mark
from notification_worker.domain import Status
from notification_worker.mail_queue import Backlog, Position
from notification_worker.outage import Outage
from testkit.mail.mailing import record
from testkit.servers.databases import TestDatabase

#: Rows of each kind: enough for a hundred pages of an index.
MANY = 20_000

#: The most pages that one statement may read. A statement that reads all rows of a kind reads more.
FEW, SCRAPE = 60, 1_500

_INSERT = f"""
INSERT INTO notifications (order_id, kind, sequence, recipient, context, status, next_attempt_at)
SELECT gen_random_uuid(), 'received', 1, 'ann@example.com', '{{}}', %s, %s
FROM generate_series(1, {MANY})
"""


@pytest.fixture
def crowded(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """A database with history and dead index entries of a finished backlog, never vacuumed."""
    of_mailer = engine(database_of("notification").service_settings, pool_size=2, session=BY_KEY)
    with of_mailer.connect().execution_options(isolation_level="AUTOCOMMIT") as run:
        run.exec_driver_sql("ALTER TABLE notifications SET (autovacuum_enabled = false)")
        run.exec_driver_sql(_INSERT, ("FAILED", "epoch"))
        run.exec_driver_sql(_INSERT, ("PENDING", "epoch"))
        run.exec_driver_sql(_INSERT, ("PENDING", "2026-01-01"))
        run.exec_driver_sql("ANALYZE notifications")
        run.exec_driver_sql("UPDATE notifications SET status = 'SENT' WHERE status = 'PENDING'")
    yield sessions(of_mailer)
    of_mailer.dispose()


def pages(connection: Connection, statement: str, values: object) -> int:
    """Return the number of pages that a statement reads."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    explained = connection.exec_driver_sql(explain, values).scalar()  # type: ignore[arg-type]
    plan = (json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def pages_of_claims(sessions: Sessions, position: Position) -> list[int]:
    with engine_of(sessions).connect() as connection:
        claims._prepare(connection)
        values = (*position.values, [], str(uuid4()), SHORTLY)
        names = ("claim_fresh", "claim_again")
        counts = [
            pages(connection, f"EXECUTE {name} (%s, %s, %s, %s, %s)", values) for name in names
        ]
        connection.rollback()
    return counts


def test_claims_and_polls_skip_sent_mails_only_once(
    crowded: Sessions,
) -> None:
    # Given a mailer that has polled once
    position = Position()
    mails = Backlog(crowded, position)
    assert mails.claim() is None

    # When an email is recorded
    record(crowded, "received")

    # Then no claim and no poll reads the entries of sent emails again
    assert max(pages_of_claims(crowded, position)) < FEW
    with engine_of(crowded).connect() as connection:
        assert pages(connection, mail_queue.NEXT_DUE, position.values) < FEW
    mail = mails.claim()
    assert mail

    # And neither does its mark
    mark = Mark(mail.id, Status.SENT, "<1@shop.example>")
    with engine_of(crowded).connect() as connection:
        claims._prepare(connection)
        execute = "EXECUTE mark_mail (%s, %s, %s, %s, %s, %s, %s, %s)"
        assert pages(connection, execute, mark.values(mails._owner)) < FEW
    mails.release()


@pytest.mark.parametrize("due", ["epoch", "2026-01-01", "2100-01-01"])
def test_claims_and_scrapes_have_a_bounded_cost_under_a_backlog(
    crowded: Sessions, due: str
) -> None:
    position = Position()
    mails = Backlog(crowded, position)
    mails.claim()
    mails.release()
    with engine_of(crowded).connect().execution_options(isolation_level="AUTOCOMMIT") as run:
        run.exec_driver_sql(_INSERT, ("PENDING", due))
    if due != "2026-01-01":
        # Emails deferred to before the last poll are left to the next full poll.
        assert max(pages_of_claims(crowded, position)) < FEW
    with crowded() as session:
        values = {"limit": metrics.COUNT_LIMIT}
        fresh, again = position.values
        for statement in (metrics._WAITING, metrics._FAILED):
            explain = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}")
            explained = session.execute(explain, values | {"fresh": fresh, "again": again}).scalar()
            plan = explained[0]["Plan"]  # type: ignore[index]
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < SCRAPE


def test_a_scrape_counts_waiting_and_failed_mails_up_to_a_limit(crowded: Sessions) -> None:
    with engine_of(crowded).connect().execution_options(isolation_level="AUTOCOMMIT") as run:
        run.exec_driver_sql(_INSERT, ("PENDING", "epoch"))
    with crowded() as session:
        samples = {
            sample.name: sample.value
            for metric in metrics.read_mails(session, Position(), Outage())
            for sample in metric.samples
        }
    assert samples["orders_mail_waiting"] == samples["orders_mail_failed"] == metrics.COUNT_LIMIT
    assert samples["orders_mail_paused_seconds"] == 0


def updates(connection: Connection) -> tuple[int, int]:
    """Return how many rows were updated, and how many of them by HOT updates."""
    hot = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = %s"
    all_, without = connection.exec_driver_sql(hot, ("notifications",)).one()
    return all_, without


def test_a_claim_writes_to_no_index(crowded: Sessions) -> None:
    record(crowded, "received")
    with engine_of(crowded).connect() as connection:
        # The statistics may still include earlier transactions of this connection.
        before = updates(connection)
        claims._prepare(connection)
        values = (0, "epoch", [], str(uuid4()), SHORTLY)
        execute = "EXECUTE claim_fresh (%s, %s, %s, %s, %s)"
        assert connection.exec_driver_sql(execute, values).one()[2] is not None
        after = updates(connection)
        connection.rollback()
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]


def test_a_mail_recorded_by_a_fast_clock_is_due_at_once(
    notification_database: Sessions,
) -> None:
    # Given an email recorded by a server that was replaced by one with a clock an hour behind
    mails = Backlog(notification_database, Position())
    order_id = record(notification_database, "received")
    with notification_database() as session, session.begin():
        hour = timedelta(hours=1)
        # All its times are from its own clock, including times that are defaults.
        session.execute(
            text(
                "UPDATE notifications SET created_at = created_at + :hour,"
                " next_attempt_at = CASE WHEN next_attempt_at >= created_at"
                " THEN next_attempt_at + :hour ELSE next_attempt_at END"
            ),
            {"hour": hour},
        )

    # Then it is due and can be claimed
    assert mails.anything_due()
    mail = mails.claim()
    mails.release()
    assert mail
    assert mail.order_id == order_id
