"""Emails that are rejected, cannot be rendered or are held do not delay other emails."""

import logging
from typing import Any

import pytest

from eventbus.database.db import Sessions
from notification_worker.mail.letter import Letter
from notification_worker.smtp.transport import Transport
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailing import deliver_all, delivery, make_due, record, rows, statuses


def test_a_failed_mail_does_not_delay_later_mails(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    order_id = record(notification_database, "received", status="FAILED")
    record(notification_database, "confirmed", order_id=order_id, sequence=2)
    deliver_all(delivery(notification_database, transport))
    assert len(mailbox.messages) == 1


def test_a_temporarily_rejected_mail_is_sent_later(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "received")
    mailer = delivery(notification_database, transport)
    mailbox.refuse(451, "greylisted")
    deliver_all(mailer)
    [row] = rows(notification_database)
    assert (row.status, row.attempts, row.last_error) == ("PENDING", 1, "451 greylisted")
    assert 0.75 <= (row.next_attempt_at - row.created_at).total_seconds() < 1.5
    mailbox.accept()
    make_due(notification_database)
    deliver_all(mailer)
    [row] = rows(notification_database)
    assert (row.status, row.attempts) == ("SENT", 2)
    assert row.last_error == "451 greylisted"
    assert len(mailbox.messages) == 1


def test_a_permanently_rejected_mail_keeps_its_reason(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    caplog: pytest.LogCaptureFixture,
) -> None:
    record(notification_database, "received")
    mailbox.refuse(550, "no such user")
    mailer = delivery(notification_database, transport)
    for _ in range(2):
        make_due(notification_database)
        deliver_all(mailer)
    [row] = rows(notification_database)
    assert (row.status, row.attempts, row.last_error) == ("FAILED", 1, "550 no such user")
    assert row.sent_at is None
    assert [r.levelno for r in caplog.records if r.levelno >= logging.WARNING] == [logging.ERROR]


def test_a_mail_fails_after_its_last_attempt(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "received")
    mailbox.refuse(451, "mailbox full")
    mailer = delivery(notification_database, transport, max_attempts=2)
    for _ in range(3):
        make_due(notification_database)
        deliver_all(mailer)
    [row] = rows(notification_database)
    assert (row.status, row.attempts, row.last_error) == ("FAILED", 2, "451 mailbox full")


def test_a_mail_that_cannot_be_rendered_delays_no_other_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "rejected", context={})
    record(notification_database, "received")
    deliver_all(delivery(notification_database, transport))
    first, _ = rows(notification_database)
    assert statuses(notification_database) == ["PENDING", "SENT"]
    assert first.last_error == "UndefinedError: raised in templates/rejected.txt:5, block 'message'"


def test_an_unexpected_error_delays_no_other_mail(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors = [ZeroDivisionError("surprise")]

    def send(self: Transport, letter: Letter, sends: Any = Transport.send) -> None:
        if errors:
            raise errors.pop()
        sends(self, letter)

    monkeypatch.setattr(Transport, "send", send)
    record(notification_database, "received")
    record(notification_database, "received")
    deliver_all(delivery(notification_database, transport))
    assert statuses(notification_database) == ["PENDING", "SENT"]
    assert rows(notification_database)[0].last_error.startswith(
        "ZeroDivisionError: raised in mail/test_failed_mails.py:"
    )


def test_a_held_mail_is_never_sent_and_delays_no_other_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    # Given a held email and a later email of its order
    order_id = record(notification_database, "received", status="HELD")
    record(notification_database, "confirmed", order_id=order_id, sequence=2)

    # When the mailer runs
    deliver_all(delivery(notification_database, transport))

    # Then only the later email is sent
    assert statuses(notification_database) == ["HELD", "SENT"]
    assert len(mailbox.messages) == 1
