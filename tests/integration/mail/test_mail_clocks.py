"""Emails are sent although the clock of their database was wrong when a time was written."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, update

from eventbus.database.db import Sessions, transaction
from notification_worker import mail_queue
from notification_worker.mail_queue import Backlog, Position
from notification_worker.models import Notification
from notification_worker.smtp.transport import Transport
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailing import deliver_all, delivery, make_due, record, statuses, subjects

FAR = func.now() + timedelta(days=5 * 365)


def change(sessions: Sessions, **values: Any) -> None:
    """Change all emails."""
    with transaction(sessions) as session:
        session.execute(update(Notification).values(**values))


@pytest.mark.parametrize(
    "times",
    [
        {"next_attempt_at": FAR},
        {"claimed_by": uuid4(), "claimed_until": FAR},
        {"claimed_by": uuid4(), "claimed_until": FAR, "next_attempt_at": FAR},
    ],
    ids=["deferred", "claimed", "claimed and deferred"],
)
def test_a_mail_is_sent_after_a_clock_was_years_ahead(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    times: dict[str, Any],
) -> None:
    # Given the emails of an order, with times of a clock that was years ahead
    record(notification_database, "received", "confirmed")
    change(notification_database, **times)

    # When the mailer runs, and again when the second email no longer waits for the first
    deliver_all(delivery(notification_database, transport))
    assert statuses(notification_database)[0] == "SENT"
    make_due(notification_database)
    deliver_all(delivery(notification_database, transport))

    # Then they are sent, in the order of the events
    assert statuses(notification_database) == ["SENT", "SENT"]
    assert [subject.split()[0] for subject in subjects(mailbox)] == ["We", "Your"]


def test_an_idle_mailer_finds_a_mail_of_a_clock_that_has_stepped_back(
    notification_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a mailer without emails, and one that is due earlier than the last one that it found
    mails = Backlog(notification_database, Position())
    assert mails.claim() is None
    record(notification_database, "received")
    hour_ago = func.now() - timedelta(hours=1)
    change(notification_database, next_attempt_at=hour_ago, attempts=1)
    assert not mails.anything_due()

    # When the next full scan is due
    monkeypatch.setattr(mail_queue, "FULL_SCAN", 0.0)

    # Then it is found
    assert mails.anything_due()
    assert mails.claim()
    mails.release()


def test_a_full_scan_without_a_result_is_not_repeated(
    notification_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a mailer that is at the end of its queue
    position = Position()
    mails = Backlog(notification_database, position)
    assert mails.claim() is None
    end = position.values

    # When a full scan finds nothing
    monkeypatch.setattr(mail_queue, "FULL_SCAN", 0.0)
    assert not mails.anything_due()
    mails.release()

    # Then the next scan starts at the end again
    assert position.values == end
