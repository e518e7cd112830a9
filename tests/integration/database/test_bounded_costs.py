"""Periodic queries cost the same after a long outage as before it.

A probe or a scrape whose cost grows with a backlog would make an outage worse. So each statement is
run against a database with a history, a backlog, and index entries that were not vacuumed, and its
pages are counted.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from eventbus.consumer.retention import INBOX, OUTBOX, _remove_some, read_ages
from eventbus.database import bounded_scan, db
from eventbus.database.bounded_scan import FULL_INTERVAL, MAX_ROWS
from eventbus.database.db import Sessions, engine_of, takes_writes, transaction
from eventbus.outbox.lag import outbox_lag, relay_pass
from order_app.http.metrics import Metrics
from order_app.retention import IDEMPOTENCY_KEYS
from order_app.storage import api_keys, models
from order_app.storage.pending import pending
from testkit.data.page_reads import counted
from testkit.servers.databases import TestDatabase

#: Rows that are deleted or done but still have index entries, and rows that wait.
DEAD, WAITING = 30_000, 3 * MAX_ROWS

#: Pages of one query: a page for each counted row at worst, and some more.
PAGES = MAX_ROWS + 1_000
FEW = 200

_NO_VACUUM = "ALTER TABLE {} SET (autovacuum_enabled = false)"
_EVENTS = """
INSERT INTO outbox (event_id, type, subject, event, created_at, next_attempt_at)
SELECT gen_random_uuid(), 'order.created', gen_random_uuid(), '{{}}', at, at
FROM generate_series(1, {}) AS n,
    LATERAL (SELECT now() - interval '{}' + n * '1 ms'::interval) AS m (at)
"""
_ORDERS = """
INSERT INTO orders (
    id, customer_email, currency, status, total, created_at, deadline_at, sequence
)
SELECT gen_random_uuid(), 'a@example.com', 'EUR', 'PENDING', 1, at, at, 1
FROM generate_series(1, {}) AS n,
    LATERAL (SELECT now() - interval '{}' + n * '1 ms'::interval) AS m (at)
"""
_SETUP = (
    *(_NO_VACUUM.format(table) for table in ("outbox", "orders", "inbox")),
    # The statistics are those of empty tables.
    "ANALYZE",
    _EVENTS.format(DEAD, "2 days"),
    _ORDERS.format(DEAD, "2 days"),
    "UPDATE outbox SET sent_at = next_attempt_at",
    "UPDATE orders SET status = 'CONFIRMED', decided_at = now()",
    f"DELETE FROM outbox WHERE id <= {DEAD // 2}",
    _EVENTS.format(WAITING, "1 hour"),
    _ORDERS.format(WAITING, "1 hour"),
    "INSERT INTO relay_state (id, passed_at) VALUES (1, now())",
)


@pytest.fixture
def sessions(order_database: Sessions) -> Sessions:
    """A database after a long outage of the broker."""
    _let_an_outage_pass(engine_of(order_database))
    return order_database


def _let_an_outage_pass(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in _SETUP:
            connection.exec_driver_sql(statement)


QUERIES: dict[str, tuple[Callable[[Session], object], int]] = {
    "readiness: writes": (takes_writes, FEW),
    "readiness: the relay": (relay_pass, FEW),
    "scrape: the outbox": (outbox_lag, PAGES),
    "scrape: pending orders": (pending, PAGES),
    "scrape: ages": (lambda s: list(read_ages(s, [OUTBOX, INBOX, IDEMPOTENCY_KEYS])), FEW),
    "API keys": (api_keys.all_keys, FEW),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_costs_no_more_after_an_outage(sessions: Sessions, name: str) -> None:
    query, pages = QUERIES[name]
    # The first query of a process may scan deleted rows.
    with transaction(sessions) as session:
        query(session)

    with counted(sessions) as read, transaction(sessions) as session:
        query(session)

    assert sum(read) <= pages


@pytest.mark.parametrize(("path", "pages"), [("/readyz", 2 * FEW), ("/metrics", 3 * PAGES)])
def test_a_probe_costs_no_more_after_an_outage(
    order_api: FlaskClient, api_database: TestDatabase, path: str, pages: int
) -> None:
    """Cover statements that are missing from the list above."""
    engine = db.engine(api_database.service_settings)
    _let_an_outage_pass(engine)
    engine.dispose()
    assert order_api.get(path).status_code == 200

    with order_api.application.app_context():
        metrics: Metrics = order_api.application.extensions["order_metrics"]
        of_requests, of_scrapes = db.sessions(models.db.engine), metrics._database._sessions
        with counted(of_scrapes if path == "/metrics" else of_requests) as read:
            assert order_api.get(path).status_code == 200

    assert 0 < sum(read) <= pages


def test_a_removal_starts_where_the_last_one_ended(sessions: Sessions) -> None:
    # Given some removals of one pass
    age, begin, first = timedelta(days=1), None, None
    for _ in range(5):
        with transaction(sessions) as session:
            some = _remove_some(session, OUTBOX, age, begin)
        assert some.rows > 0
        first, begin = first or begin, some.last

    # Then the next one does not scan the removed rows
    with counted(sessions) as read, transaction(sessions) as session:
        _remove_some(session, OUTBOX, age, begin)
    from_the_last = sum(read)
    with counted(sessions) as read, transaction(sessions) as session:
        _remove_some(session, OUTBOX, age, None)
    assert from_the_last < sum(read)


def test_counts_stop_above_their_limit(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        waiting, orders = outbox_lag(session), pending(session)

    assert (waiting.unsent, orders.pending) == (MAX_ROWS + 1, MAX_ROWS + 1)
    assert waiting.oldest_unsent_seconds == pytest.approx(3600, abs=300)
    assert orders.oldest_pending_seconds == pytest.approx(3600, abs=300)


def test_a_row_dated_in_the_past_is_counted(sessions: Sessions) -> None:
    # Given a query that found no event
    with transaction(sessions) as session:
        session.execute(text("UPDATE outbox SET sent_at = now() WHERE sent_at IS NULL"))
    with transaction(sessions) as session:
        assert outbox_lag(session).unsent == 0

    # When an event arrives that is some minutes old
    with transaction(sessions) as session:
        session.execute(text(_EVENTS.format(1, "4 minutes")))

    # Then it is counted
    with transaction(sessions) as session:
        assert outbox_lag(session).unsent == 1


def test_rows_that_return_from_an_earlier_time_are_counted(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an outbox whose lag was read, and then an old event that is to be sent again
    with transaction(order_database) as session:
        assert outbox_lag(session).unsent == 0
        session.execute(text(_EVENTS.format(1, "2 hours")))

    # When the next full scan is due
    with transaction(order_database) as session:
        assert outbox_lag(session).unsent == 0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 2 * FULL_INTERVAL)
    monkeypatch.setattr(bounded_scan, "time", clock)

    # Then it is counted, and also by the scans that follow
    for _ in range(2):
        with transaction(order_database) as session:
            assert outbox_lag(session).unsent == 1
