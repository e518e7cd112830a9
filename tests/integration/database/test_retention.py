"""Old rows are removed, a few at a time; nothing that is still needed goes, and nobody waits."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Select, func, insert, select, text, update
from sqlalchemy.dialects import postgresql

import analytics_worker.reader
import analytics_worker.retention
import fraud_worker.relay
import fraud_worker.retention
import fraud_worker.settings
import inventory_worker.relay
import inventory_worker.retention
import notification_worker.mailer
import notification_worker.retention
import order_app.relay
import order_app.retention
from analytics_worker.models import SkippedRow
from common.kombu_topology import SERVICES
from eventbus.consumer import retention
from eventbus.consumer.inbox import inbox
from eventbus.consumer.retention import INBOX, OUTBOX, Kept, Retention, read_ages
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from eventbus.messaging.publisher import Publisher
from eventbus.outbox.relay import Relay
from eventbus.outbox.table import outbox
from eventbus.telemetry.metrics import REMOVED
from notification_worker.models import Notification
from notification_worker.settings import MailerSettings
from order_app.storage.models import IdempotencyKey, OrderRow
from testkit.eventually import eventually
from testkit.processes.relays import relay_once
from testkit.servers.databases import TestDatabase

LIMIT = 10
OLD, YOUNG = timedelta(days=LIMIT, hours=1), timedelta(days=LIMIT, hours=-1)


def event(**columns: Any) -> dict[str, Any]:
    """Return an outbox row that was recorded, and not sent, so long ago."""
    age = columns.pop("age", timedelta(0))
    then = datetime.now(UTC) - age
    row = {"event_id": uuid4(), "type": "order.created", "subject": uuid4(), "event": "{}"}
    return row | {"created_at": then, "next_attempt_at": then, "sent_at": None} | columns


def sent(age: timedelta) -> dict[str, Any]:
    return event(age=age, sent_at=datetime.now(UTC) - age)


def handled(age: timedelta) -> dict[str, Any]:
    then = datetime.now(UTC) - age
    return {
        "event_id": uuid4(),
        "type": "order.created",
        "source": "order",
        "subject": uuid4(),
        "attempts": 1,
        "occurred_at": then,
        "handled_at": then,
    }


def fill(sessions: Sessions, table: Any, *rows: dict[str, Any]) -> None:
    with transaction(sessions) as session:
        session.execute(insert(table), list(rows))


def ids(sessions: Sessions, query: Select[Any]) -> set[Any]:
    with transaction(sessions) as session:
        return set(session.scalars(query))


def of_outbox(sessions: Sessions) -> set[Any]:
    return ids(sessions, select(outbox.c.event_id))


def soon() -> float:
    return time.monotonic() + 30


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait between two statements."""
    monkeypatch.setattr(retention, "PAUSE", 0.0)


# --- What goes, and what stays ------------------------------------------------------------------


def test_old_sent_events_go_and_young_and_unsent_ones_stay(order_database: Sessions) -> None:
    # given
    old, young, unsent = sent(OLD), sent(YOUNG), event(age=timedelta(days=1_000))
    fill(order_database, outbox, old, young, unsent)

    # when
    removed = Retention(order_database, {OUTBOX: LIMIT}).remove(soon())

    # then
    assert removed == {"outbox": 1}
    assert of_outbox(order_database) == {young["event_id"], unsent["event_id"]}


def test_an_event_that_was_recorded_long_ago_and_sent_just_now_stays(
    order_database: Sessions,
) -> None:
    late = event(age=OLD, sent_at=datetime.now(UTC))
    fill(order_database, outbox, late)

    Retention(order_database, {OUTBOX: LIMIT}).remove(soon())

    assert of_outbox(order_database) == {late["event_id"]}


def test_the_inbox_forgets_what_was_handled_before_its_window(
    inventory_database: Sessions,
) -> None:
    # given
    old, young = handled(OLD), handled(YOUNG)
    fill(inventory_database, inbox, old, young)

    # when
    removed = Retention(inventory_database, {INBOX: LIMIT}).remove(soon())

    # then
    assert removed == {"inbox": 1}
    assert ids(inventory_database, select(inbox.c.event_id)) == {young["event_id"]}


def test_old_mails_go_but_for_those_that_wait(notification_database: Sessions) -> None:
    # given
    def mail(status: str, age: timedelta) -> dict[str, Any]:
        then = datetime.now(UTC) - age
        about = {"order_id": uuid4(), "kind": "received", "sequence": 1, "recipient": "a@b.example"}
        return about | {"context": {}, "status": status, "created_at": then}

    mails = [mail(status, age) for status in ("PENDING", "SENT", "FAILED") for age in (OLD, YOUNG)]
    fill(notification_database, Notification, *mails)

    # when
    days = {notification_worker.retention.NOTIFICATIONS: LIMIT}
    removed = Retention(notification_database, days).remove(soon())

    # then
    assert removed == {"notifications": 2}
    assert ids(notification_database, select(Notification.order_id)) == {
        m["order_id"] for m in mails if m["status"] == "PENDING" or mails.index(m) % 2
    }


def test_old_idempotency_keys_go_and_their_orders_stay(order_database: Sessions) -> None:
    # given
    now = datetime.now(UTC)
    order = {
        "id": uuid4(),
        "customer_email": "ada@example.com",
        "currency": "EUR",
        "status": "CONFIRMED",
        "total": 1,
        "created_at": now - OLD,
        "decided_at": now - OLD,
        "deadline_at": now - OLD,
        "sequence": 2,
    }
    of_order = {"api_key": "k", "fingerprint": "f", "order_id": order["id"]}
    fill(order_database, OrderRow, order)
    fill(
        order_database,
        IdempotencyKey,
        of_order | {"key": "old", "created_at": now - OLD},
        of_order | {"key": "young", "created_at": now - YOUNG},
    )

    # when
    days = {order_app.retention.IDEMPOTENCY_KEYS: LIMIT}
    removed = Retention(order_database, days).remove(soon())

    # then
    assert removed == {"idempotency_keys": 1}
    assert ids(order_database, select(IdempotencyKey.key)) == {"young"}
    assert ids(order_database, select(OrderRow.id)) == {order["id"]}


def test_old_skipped_messages_are_deleted(analytics_database: Sessions) -> None:
    # given
    now = datetime.now(UTC)
    row = {"stream_offset": 1, "reason": "no event", "body": "ada@example.com"}
    old = row | {"skipped_at": now - OLD}
    young = row | {"stream_offset": 2, "skipped_at": now - YOUNG}
    fill(analytics_database, SkippedRow, old, young)

    # when
    days = {analytics_worker.retention.SKIPPED: LIMIT}
    removed = Retention(analytics_database, days).remove(soon())

    # then
    assert removed == {"skipped_events": 1}
    assert ids(analytics_database, select(SkippedRow.stream_offset)) == {2}


# --- Within limits ------------------------------------------------------------------------------


def test_a_statement_removes_no_more_than_a_batch_and_the_oldest_first(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a pass that has time for one statement only
    monkeypatch.setattr(retention, "BATCH", 10)
    monkeypatch.setattr(retention, "PAUSE", 0.5)
    rows = [sent(OLD + timedelta(minutes=n)) for n in range(25)]
    fill(order_database, outbox, *rows)

    # when
    removed = Retention(order_database, {OUTBOX: LIMIT}).remove(time.monotonic() + 0.25)

    # then
    assert removed == {"outbox": 10}
    assert of_outbox(order_database) == {row["event_id"] for row in rows[:15]}


def test_a_pass_goes_on_until_nothing_old_is_left_and_the_tables_take_turns(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(retention, "BATCH", 10)
    fill(order_database, outbox, *(sent(OLD) for _ in range(35)), sent(YOUNG))
    fill(order_database, inbox, *(handled(OLD) for _ in range(10)))
    before = REMOVED.labels("outbox")._value.get()
    turns: list[str] = []
    remove_some = retention._remove_some

    def noted(session: Any, kept: Kept, *rest: Any) -> retention.Removed:
        turns.append(kept.table.name)
        return remove_some(session, kept, *rest)

    monkeypatch.setattr(retention, "_remove_some", noted)

    # when
    removed = Retention(order_database, {OUTBOX: LIMIT, INBOX: LIMIT}).remove(soon())

    # then
    assert removed == {"outbox": 35, "inbox": 10}
    assert turns == ["outbox", "inbox", "outbox", "inbox", "outbox", "outbox"]
    assert REMOVED.labels("outbox")._value.get() - before == 35
    assert len(of_outbox(order_database)) == 1


def test_a_row_that_somebody_has_locked_is_passed_over(order_database: Sessions) -> None:
    # given an old event that somebody is about to send again
    locked, other = sent(OLD), sent(OLD)
    fill(order_database, outbox, locked, other)
    removal = Retention(order_database, {OUTBOX: LIMIT})
    with transaction(order_database) as session:
        again = update(outbox).where(outbox.c.event_id == locked["event_id"])
        session.execute(again.values(sent_at=None))

        # when
        removed = removal.remove(soon())

        # then nobody waited for the lock
        assert removed == {"outbox": 1}

    # and then it waits to be sent, so it stays
    assert removal.remove(soon())["outbox"] == 0
    assert of_outbox(order_database) == {locked["event_id"]}


class Broker(Publisher):
    """Confirms everything."""

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        """Take them."""
        in_flight = InFlight("orders.topic")
        in_flight.report.confirmed = {outgoing.event_id for outgoing in batch}
        return in_flight

    def settle(self, in_flight: InFlight, until: float = inf) -> Report:
        """Say yes."""
        return in_flight.report

    def ready(self, until: float) -> bool:
        """Take more."""
        return True

    def heartbeat(self) -> None:
        """Be there."""


def test_the_relay_claims_and_marks_while_rows_are_being_removed(order_database: Sessions) -> None:
    # given a removal that has not committed yet
    unsent = event()
    fill(order_database, outbox, *(sent(OLD) for _ in range(20)), unsent)
    with transaction(order_database) as session:
        assert retention._remove_some(session, OUTBOX, timedelta(days=LIMIT)).rows == 20

        # when
        confirmed = relay_once(Relay(order_database, Broker()))

        # then
        assert confirmed == 1
    assert of_outbox(order_database) == {unsent["event_id"]}


@pytest.mark.parametrize(
    ("service", "kept", "index"),
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
def test_what_is_removed_is_found_by_an_index(
    database_of: Callable[[str], TestDatabase], service: str, kept: Kept, index: str
) -> None:
    engine = db.engine(database_of(service).service_settings)
    statement = retention._removal(kept, timedelta(days=LIMIT)).compile(
        dialect=postgresql.psycopg2.dialect(), compile_kwargs={"literal_binds": True}
    )
    with engine.begin() as connection:
        # An empty table is read whole, whatever it has.
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}").scalars())
    engine.dispose()

    assert f"Index Scan using {index}" in plan
    assert "Tid Scan" in plan
    assert "Sort" not in plan


# --- In its process -----------------------------------------------------------------------------

#: Service, its process that has ticks, and what it is told beside its database.
PROCESSES: dict[str, tuple[Any, type[Any], Any]] = {
    "order": (order_app.relay, order_app.retention.RelaySettings, order_app.retention.KEPT),
    "inventory": (
        inventory_worker.relay,
        inventory_worker.retention.RelaySettings,
        inventory_worker.retention.KEPT,
    ),
    "notification": (
        notification_worker.mailer,
        MailerSettings,
        notification_worker.retention.KEPT,
    ),
    "fraud": (
        fraud_worker.relay,
        fraud_worker.settings.RelaySettings,
        fraud_worker.retention.KEPT,
    ),
    "analytics": (
        analytics_worker.reader,
        analytics_worker.retention.ReaderSettings,
        analytics_worker.retention.KEPT,
    ),
}


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_the_loops_of_each_process_remove_old_rows(
    database_of: Callable[[str], TestDatabase], service: str
) -> None:
    # given
    database = database_of(service)
    sessions = db.sessions(db.engine(database.service_settings))
    module, settings_of, _ = PROCESSES[service]
    fill(sessions, inbox, handled(timedelta(days=31)), handled(timedelta(days=29)))
    settings = settings_of(
        broker_user="nobody",
        broker_password="none",
        broker_ca_file=database.ca_file,
        mail_from="shop@example.com",
        **database.settings,
    )

    # when
    loops = {loop.name: loop for loop in module.start(settings)}
    loops["retention"].start()

    # then
    def only_the_young_one() -> None:
        assert len(ids(sessions, select(inbox.c.event_id))) == 1

    eventually(only_the_young_one)
    loops["retention"].stop()
    loops["retention"].join(30)
    sessions.kw["bind"].dispose()


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_every_process_shows_how_old_the_oldest_rows_are(
    database_of: Callable[[str], TestDatabase], service: str
) -> None:
    # given
    sessions = db.sessions(db.engine(database_of(service).service_settings))
    module, _, kept = PROCESSES[service]
    fill(sessions, inbox, handled(timedelta(days=2)), handled(timedelta(days=1)))

    # when
    with transaction(sessions) as session:
        shown = {m.name: m for m in module._read(session)}["orders_oldest_row_seconds"]

    # then
    ages = {sample.labels["table"]: sample.value for sample in shown.samples}
    assert ages.keys() == {each.table.name for each in kept}
    assert ages.pop("inbox") == pytest.approx(2 * 86_400, abs=60)
    assert set(ages.values()) <= {0.0}
    sessions.kw["bind"].dispose()


def test_an_unsent_event_is_not_the_oldest_row(order_database: Sessions) -> None:
    fill(order_database, outbox, event(age=OLD), sent(timedelta(hours=1)))

    with transaction(order_database) as session:
        (shown,) = read_ages(session, [OUTBOX])

    assert shown.samples[0].value == pytest.approx(3_600, abs=60)


def test_passes_follow_each_other_at_the_interval(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    passes: list[float] = []
    removal = Retention(order_database, {OUTBOX: LIMIT})
    monkeypatch.setattr(removal, "remove", passes.append)
    monkeypatch.setattr(retention, "INTERVAL", 0.01)

    # when
    loop = removal.loop()
    loop.start()

    # then each has the same time
    eventually(lambda: _several(passes))
    loop.stop()
    loop.join(30)
    assert passes == sorted(passes)
    assert passes[0] - time.monotonic() < retention.LONGEST_PASS


def test_a_database_that_fails_does_not_stop_the_next_pass(
    order_database: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    # given a table that is not there yet
    fill(order_database, outbox, sent(OLD))
    with transaction(order_database) as session:
        session.execute(text("ALTER TABLE outbox RENAME TO gone"))
    removal = Retention(order_database, {OUTBOX: LIMIT})

    # when
    assert removal.remove(soon()) == {}
    with transaction(order_database) as session:
        session.execute(text("ALTER TABLE gone RENAME TO outbox"))

    # then
    assert [r.message for r in caplog.records] == ["retention interrupted"]
    assert removal.remove(soon()) == {"outbox": 1}
    with transaction(order_database) as session:
        assert session.scalar(select(func.count()).select_from(outbox)) == 0


def _several(found: list[float]) -> None:
    assert len(found) > 2
