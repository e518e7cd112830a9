"""What the mailer and its metrics read is bounded, with history, backlog and dead entries."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text

from eventbus.database.db import BY_KEY, Sessions, engine, sessions
from notification_worker import claims, mail_queue, metrics
from notification_worker.claims import SHORTLY, Mark
from notification_worker.domain import Status
from notification_worker.mail_queue import Backlog, Position
from notification_worker.outage import Outage
from testkit.mail.mailing import record
from testkit.servers.databases import TestDatabase

#: Rows of each kind: their entries take a hundred pages of an index.
MANY = 20_000

#: Pages that one statement may read. A statement that reads all rows of a kind reads more.
FEW, SCRAPE = 60, 1_500

_INSERT = f"""
INSERT INTO notifications (order_id, kind, sequence, recipient, context, status, next_attempt_at)
SELECT gen_random_uuid(), 'received', 1, 'ann@example.com', '{{}}', %s, %s
FROM generate_series(1, {MANY})
"""


@pytest.fixture
def crowded(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """A database with history, and entries of a backlog that was worked off; nothing vacuums it."""
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
    """Return how many pages a statement reads."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
    found = connection.exec_driver_sql(explain, values).scalar()  # type: ignore[arg-type]
    plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def pages_of_claims(sessions: Sessions, position: Position) -> list[int]:
    with sessions.kw["bind"].connect() as connection:
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
    # given a mailer that has looked once
    position = Position()
    mails = Backlog(crowded, position)
    assert mails.claim() is None

    # when a mail is recorded
    record(crowded, "received")

    # then nothing passes over the entries of those that were sent
    assert max(pages_of_claims(crowded, position)) < FEW
    with crowded.kw["bind"].connect() as connection:
        assert pages(connection, mail_queue.LOOK, position.values) < FEW
    mail = mails.claim()
    assert mail

    # nor does its mark
    mark = Mark(mail.id, Status.SENT, "<1@shop.example>")
    with crowded.kw["bind"].connect() as connection:
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
    with crowded.kw["bind"].connect().execution_options(isolation_level="AUTOCOMMIT") as run:
        run.exec_driver_sql(_INSERT, ("PENDING", due))
    if due != "2026-01-01":
        # What was put off before the last look is for the next one from the first entry.
        assert max(pages_of_claims(crowded, position)) < FEW
    with crowded() as session:
        values = {"limit": metrics.COUNT_LIMIT}
        fresh, again = position.values
        for statement in (metrics._WAITING, metrics._FAILED):
            explain = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}")
            found = session.execute(explain, values | {"fresh": fresh, "again": again}).scalar()
            plan = found[0]["Plan"]  # type: ignore[index]
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < SCRAPE


def test_a_scrape_counts_waiting_and_failed_mails_up_to_a_limit(crowded: Sessions) -> None:
    with crowded.kw["bind"].connect().execution_options(isolation_level="AUTOCOMMIT") as run:
        run.exec_driver_sql(_INSERT, ("PENDING", "epoch"))
    with crowded() as session:
        found = {
            sample.name: sample.value
            for metric in metrics.read_mails(session, Position(), Outage())
            for sample in metric.samples
        }
    assert found["orders_mail_waiting"] == found["orders_mail_failed"] == metrics.COUNT_LIMIT
    assert found["orders_mail_paused_seconds"] == 0


def updates(connection: Connection) -> tuple[int, int]:
    """Return how many rows were updated, and how many of them without an entry in an index."""
    hot = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = %s"
    all_, without = connection.exec_driver_sql(hot, ("notifications",)).one()
    return all_, without


def test_a_claim_writes_to_no_index(crowded: Sessions) -> None:
    record(crowded, "received")
    with crowded.kw["bind"].connect() as connection:
        # The figures of this connection's earlier transactions may still be counted with its own.
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
    # given a mail of a server that was replaced by one whose clock is an hour behind
    mails = Backlog(notification_database, Position())
    order_id = record(notification_database, "received")
    with notification_database() as session, session.begin():
        hour = timedelta(hours=1)
        # All its times are as its own clock said; a default that is a time is among them.
        session.execute(
            text(
                "UPDATE notifications SET created_at = created_at + :hour,"
                " next_attempt_at = CASE WHEN next_attempt_at >= created_at"
                " THEN next_attempt_at + :hour ELSE next_attempt_at END"
            ),
            {"hour": hour},
        )

    # then
    assert mails.anything_due()
    mail = mails.claim()
    mails.release()
    assert mail
    assert mail.order_id == order_id
