"""A removal of old rows is bounded, and blocks no other work."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.dialects import postgresql

import analytics_worker.reader
import analytics_worker.retention
import fraud_worker.relay
import fraud_worker.retention
import fraud_worker.settings
import notification_worker.mailer
import notification_worker.retention
import order_app.relay
import order_app.retention
from eventbus.consumer import retention
from eventbus.consumer.inbox import inbox
from eventbus.consumer.retention import INBOX, OUTBOX, Retention, RetentionRule
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.messaging.publisher import Publisher
from eventbus.outbox.relay import Relay
from eventbus.outbox.table import outbox
from eventbus.telemetry.metrics import REMOVED
from testkit.data.old_rows import (
    LIMIT,
    OLD,
    YOUNG,
    event,
    fill,
    handled,
    of_outbox,
    sent,
    soon,
)
from testkit.processes.relays import relay_once
from testkit.servers.databases import TestDatabase

pytestmark = pytest.mark.usefixtures("no_pause")


def test_a_statement_deletes_one_batch_of_the_oldest_rows(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a pass that has time for one statement only, by a clock that advances in pauses
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[-1], sleep=lambda seconds: now.append(seconds))
    monkeypatch.setattr(retention, "time", clock)
    monkeypatch.setattr(retention, "BATCH", 10)
    monkeypatch.setattr(retention, "PAUSE", 0.5)
    rows = [sent(OLD + timedelta(minutes=n)) for n in range(25)]
    fill(order_database, outbox, *rows)

    # When old rows are removed
    removed = Retention(order_database, {OUTBOX: LIMIT}).remove(0.25)

    # Then one batch of the oldest rows is gone
    assert removed == {"outbox": 10}
    assert of_outbox(order_database) == {row["event_id"] for row in rows[:15]}


def test_a_pass_alternates_tables_until_no_old_row_is_left(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two tables with old rows
    monkeypatch.setattr(retention, "BATCH", 10)
    fill(order_database, outbox, *(sent(OLD) for _ in range(35)), sent(YOUNG))
    fill(order_database, inbox, *(handled(OLD) for _ in range(10)))
    before = REMOVED.labels("outbox")._value.get()
    turns: list[str] = []
    remove_some = retention._remove_some

    def recorded(session: Any, rule: RetentionRule, *rest: Any) -> retention.Removed:
        turns.append(rule.table.name)
        return remove_some(session, rule, *rest)

    monkeypatch.setattr(retention, "_remove_some", recorded)

    # When old rows are removed
    removed = Retention(order_database, {OUTBOX: LIMIT, INBOX: LIMIT}).remove(soon())

    # Then all are deleted, and the tables took turns
    assert removed == {"outbox": 35, "inbox": 10}
    assert turns == ["outbox", "inbox", "outbox", "inbox", "outbox", "outbox"]
    assert REMOVED.labels("outbox")._value.get() - before == 35
    assert len(of_outbox(order_database)) == 1


def test_a_locked_row_is_skipped(order_database: Sessions) -> None:
    # Given an old event that another transaction marks unsent
    locked, other = sent(OLD), sent(OLD)
    fill(order_database, outbox, locked, other)
    removal = Retention(order_database, {OUTBOX: LIMIT})
    with transaction(order_database) as session:
        again = update(outbox).where(outbox.c.event_id == locked["event_id"])
        session.execute(again.values(sent_at=None))

        # When old rows are removed
        removed = removal.remove(soon())

        # Then the locked row was skipped without a wait
        assert removed == {"outbox": 1}

    # And after the commit the event is unsent, so it stays
    assert removal.remove(soon())["outbox"] == 0
    assert of_outbox(order_database) == {locked["event_id"]}


class ConfirmingStub(Publisher):
    """Confirms every event."""

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        """Return a report in which all events are confirmed."""
        in_flight = InFlight("orders.topic")
        in_flight.report.confirmed = {outgoing.event_id for outgoing in batch}
        return in_flight

    def settle(self, in_flight: InFlight, until: float = inf) -> Report:
        """Return the report."""
        return in_flight.report

    def ready(self, until: float) -> bool:
        """Return that the broker accepts events."""
        return True

    def heartbeat(self) -> None:
        """Do nothing."""


def test_the_relay_publishes_during_a_removal(order_database: Sessions) -> None:
    # Given a removal that has not committed yet
    unsent = event()
    fill(order_database, outbox, *(sent(OLD) for _ in range(20)), unsent)
    with transaction(order_database) as session:
        assert retention._remove_some(session, OUTBOX, timedelta(days=LIMIT)).rows == 20

        # When the relay drains
        confirmed = relay_once(Relay(order_database, ConfirmingStub()))

        # Then the unsent event is sent
        assert confirmed == 1
    assert of_outbox(order_database) == {unsent["event_id"]}


@pytest.mark.parametrize(
    ("service", "rule", "index"),
    [
        ("order", OUTBOX, "ix_outbox_sent_at"),
        ("order", INBOX, "ix_inbox_handled_at"),
        ("order", order_app.retention.IDEMPOTENCY_KEYS, "ix_idempotency_keys_created_at"),
        (
            "notification",
            notification_worker.retention.NOTIFICATIONS,
            "ix_notifications_created_at",
        ),
        ("fraud", fraud_worker.retention.JUDGEMENTS, "ix_judgements_judged_at"),
        ("analytics", analytics_worker.retention.SKIPPED, "ix_skipped_events_skipped_at"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_old_rows_are_found_by_an_index(
    database_of: Callable[[str], TestDatabase], service: str, rule: RetentionRule, index: str
) -> None:
    engine = db.engine(database_of(service).service_settings)
    statement = retention._removal(rule, timedelta(days=LIMIT)).compile(
        dialect=postgresql.psycopg2.dialect(), compile_kwargs={"literal_binds": True}
    )
    with engine.begin() as connection:
        # An empty table is scanned sequentially despite its indexes.
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}").scalars())
    engine.dispose()

    assert f"Index Scan using {index}" in plan
    assert "Tid Scan" in plan
    assert "Sort" not in plan
