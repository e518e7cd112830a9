"""Every process removes old rows periodically, and exports the age of the oldest."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text

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
from common.kombu_topology import SERVICES
from eventbus.consumer import retention
from eventbus.consumer.inbox import inbox
from eventbus.consumer.retention import OUTBOX, Retention, read_ages
from eventbus.database import db
from eventbus.database.db import Sessions, engine_of, transaction
from eventbus.outbox.table import outbox
from notification_worker.settings import MailerSettings
from testkit.data.old_rows import (
    LIMIT,
    OLD,
    event,
    fill,
    handled,
    ids,
    sent,
    soon,
)
from testkit.eventually import eventually
from testkit.servers.databases import TestDatabase


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Omit the pause between two statements."""
    monkeypatch.setattr(retention, "PAUSE", 0.0)


#: By service: the module of its process, the settings class, and the tables with retention.
PROCESSES: dict[str, tuple[Any, type[Any], Any]] = {
    "order": (order_app.relay, order_app.retention.RelaySettings, order_app.retention.RULES),
    "inventory": (
        inventory_worker.relay,
        inventory_worker.retention.RelaySettings,
        inventory_worker.retention.RULES,
    ),
    "notification": (
        notification_worker.mailer,
        MailerSettings,
        notification_worker.retention.RULES,
    ),
    "fraud": (
        fraud_worker.relay,
        fraud_worker.settings.RelaySettings,
        fraud_worker.retention.RULES,
    ),
    "analytics": (
        analytics_worker.reader,
        analytics_worker.retention.ReaderSettings,
        analytics_worker.retention.RULES,
    ),
}


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_each_process_deletes_old_rows(
    database_of: Callable[[str], TestDatabase], service: str
) -> None:
    # Given rows on both sides of the limit
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

    # When the process runs its retention loop
    loops = {loop.name: loop for loop in module.start(settings)}
    loops["retention"].start()

    # Then the old row is deleted
    def only_the_young_row() -> None:
        assert len(ids(sessions, select(inbox.c.event_id))) == 1

    eventually(only_the_young_row)
    loops["retention"].stop()
    loops["retention"].join(30)
    engine_of(sessions).dispose()


@pytest.mark.parametrize("service", [service.name for service in SERVICES])
def test_each_process_exports_the_age_of_its_oldest_rows(
    database_of: Callable[[str], TestDatabase], service: str
) -> None:
    # Given rows that are one and two days old
    sessions = db.sessions(db.engine(database_of(service).service_settings))
    module, _, kept = PROCESSES[service]
    fill(sessions, inbox, handled(timedelta(days=2)), handled(timedelta(days=1)))

    # When the metrics are read
    with transaction(sessions) as session:
        shown = {m.name: m for m in module._read(session)}["orders_oldest_row_seconds"]

    # Then each table has the age of its oldest row
    ages = {sample.labels["table"]: sample.value for sample in shown.samples}
    assert ages.keys() == {table.table.name for table in kept}
    assert ages.pop("inbox") == pytest.approx(2 * 86_400, abs=60)
    assert set(ages.values()) <= {0.0}
    engine_of(sessions).dispose()


def test_an_unsent_event_is_not_the_oldest_row(order_database: Sessions) -> None:
    fill(order_database, outbox, event(age=OLD), sent(timedelta(hours=1)))

    with transaction(order_database) as session:
        (shown,) = read_ages(session, [OUTBOX])

    assert shown.samples[0].value == pytest.approx(3_600, abs=60)


def test_passes_run_at_the_interval(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a short interval
    passes: list[float] = []
    removal = Retention(order_database, {OUTBOX: LIMIT})
    monkeypatch.setattr(removal, "remove", passes.append)
    monkeypatch.setattr(retention, "INTERVAL", 0.01)

    # When the loop runs
    loop = removal.loop()
    loop.start()

    # Then passes have increasing deadlines
    eventually(lambda: _several(passes))
    loop.stop()
    loop.join(30)
    assert passes == sorted(passes)
    assert passes[0] - time.monotonic() < retention.LONGEST_PASS


def test_a_database_error_does_not_stop_the_next_pass(
    order_database: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a table that does not exist yet
    fill(order_database, outbox, sent(OLD))
    with transaction(order_database) as session:
        session.execute(text("ALTER TABLE outbox RENAME TO gone"))
    removal = Retention(order_database, {OUTBOX: LIMIT})

    # When a pass fails, and then the table exists
    assert removal.remove(soon()) == {}
    with transaction(order_database) as session:
        session.execute(text("ALTER TABLE gone RENAME TO outbox"))

    # Then the next pass removes the row
    assert [r.message for r in caplog.records] == ["retention interrupted"]
    assert removal.remove(soon()) == {"outbox": 1}
    with transaction(order_database) as session:
        assert session.scalar(select(func.count()).select_from(outbox)) == 0


def _several(passes: list[float]) -> None:
    assert len(passes) > 2
