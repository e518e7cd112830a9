"""Old rows are removed, except those that are still needed."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select

import analytics_worker.reader
import analytics_worker.retention
import notification_worker.mailer
import notification_worker.retention
import order_app.relay
import order_app.retention
from analytics_worker.models import SkippedRow
from eventbus.consumer import retention
from eventbus.consumer.inbox import inbox
from eventbus.consumer.retention import INBOX, OUTBOX, Retention
from eventbus.database.db import Sessions
from eventbus.outbox.table import outbox
from notification_worker.models import Notification
from order_app.storage.models import IdempotencyKey, OrderRow
from testkit.data.old_rows import (
    LIMIT,
    OLD,
    YOUNG,
    event,
    fill,
    handled,
    ids,
    of_outbox,
    sent,
    soon,
)

pytestmark = pytest.mark.usefixtures("no_pause")


def test_old_sent_events_are_deleted_and_others_kept(order_database: Sessions) -> None:
    # Given sent events on both sides of the limit, and an unsent one
    old, young, unsent = sent(OLD), sent(YOUNG), event(age=timedelta(days=1_000))
    fill(order_database, outbox, old, young, unsent)

    # When old rows are removed
    removed = Retention(order_database, {OUTBOX: LIMIT}).remove(soon())

    # Then only the old sent one is deleted
    assert removed == {"outbox": 1}
    assert of_outbox(order_database) == {young["event_id"], unsent["event_id"]}


@pytest.mark.parametrize("years", [-5, 5])
def test_nothing_is_deleted_while_two_clocks_disagree(
    order_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    years: int,
) -> None:
    # Given an old event, and clocks of the database and of the process that differ by years
    old = sent(OLD)
    fill(order_database, outbox, old)

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365 * years)

    monkeypatch.setattr(retention, "datetime", Wrong)

    # When old rows are removed
    removed = Retention(order_database, {OUTBOX: LIMIT}).remove(soon())

    # Then the event is kept, because either clock may be the wrong one
    assert removed == {}
    assert of_outbox(order_database) == {old["event_id"]}
    assert caplog.messages == ["retention suspended, because two clocks disagree"]


def test_an_old_event_that_was_sent_recently_is_kept(
    order_database: Sessions,
) -> None:
    late = event(age=OLD, sent_at=datetime.now(UTC))
    fill(order_database, outbox, late)

    Retention(order_database, {OUTBOX: LIMIT}).remove(soon())

    assert of_outbox(order_database) == {late["event_id"]}


def test_inbox_rows_outside_the_dedup_window_are_deleted(
    inventory_database: Sessions,
) -> None:
    # Given handled events on both sides of the limit
    old, young = handled(OLD), handled(YOUNG)
    fill(inventory_database, inbox, old, young)

    # When old rows are removed
    removed = Retention(inventory_database, {INBOX: LIMIT}).remove(soon())

    # Then the old one is deleted
    assert removed == {"inbox": 1}
    assert ids(inventory_database, select(inbox.c.event_id)) == {young["event_id"]}


def test_old_mails_are_deleted_except_pending_ones(notification_database: Sessions) -> None:
    # Given emails of every state on both sides of the limit
    def mail(status: str, age: timedelta) -> dict[str, Any]:
        then = datetime.now(UTC) - age
        common = {
            "order_id": uuid4(),
            "kind": "received",
            "sequence": 1,
            "recipient": "a@b.example",
        }
        return common | {"context": {}, "status": status, "created_at": then}

    mails = [mail(status, age) for status in ("PENDING", "SENT", "FAILED") for age in (OLD, YOUNG)]
    fill(notification_database, Notification, *mails)

    # When old rows are removed
    days = {notification_worker.retention.NOTIFICATIONS: LIMIT}
    removed = Retention(notification_database, days).remove(soon())

    # Then the pending ones and the young ones are left
    assert removed == {"notifications": 2}
    assert ids(notification_database, select(Notification.order_id)) == {
        m["order_id"] for m in mails if m["status"] == "PENDING" or mails.index(m) % 2
    }


def test_old_idempotency_keys_are_deleted_and_orders_kept(order_database: Sessions) -> None:
    # Given an old order with keys on both sides of the limit
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

    # When old rows are removed
    days = {order_app.retention.IDEMPOTENCY_KEYS: LIMIT}
    removed = Retention(order_database, days).remove(soon())

    # Then the old key is deleted, and the order is not
    assert removed == {"idempotency_keys": 1}
    assert ids(order_database, select(IdempotencyKey.key)) == {"young"}
    assert ids(order_database, select(OrderRow.id)) == {order["id"]}


def test_old_skipped_messages_are_deleted(analytics_database: Sessions) -> None:
    # Given skipped messages on both sides of the limit
    now = datetime.now(UTC)
    row = {"stream_offset": 1, "reason": "no event", "body": "ada@example.com"}
    old = row | {"skipped_at": now - OLD}
    young = row | {"stream_offset": 2, "skipped_at": now - YOUNG}
    fill(analytics_database, SkippedRow, old, young)

    # When old rows are removed
    days = {analytics_worker.retention.SKIPPED: LIMIT}
    removed = Retention(analytics_database, days).remove(soon())

    # Then the old one is deleted
    assert removed == {"skipped_events": 1}
    assert ids(analytics_database, select(SkippedRow.stream_offset)) == {2}
