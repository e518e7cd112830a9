"""Mails that are refused, cannot be rendered or are held: they do not delay other mails."""

import logging
from typing import Any

import pytest

from eventbus.database.db import Sessions
from notification_worker.mail.letter import Letter
from notification_worker.smtp.transport import Transport
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailing import (
    deliver_all,
    delivery,
    make_due,
    record,
    rows,
    statuses,
)


def test_a_mail_that_failed_for_good_holds_up_no_later_one(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    order_id = record(notification_database, "received", status="FAILED")
    record(notification_database, "confirmed", order_id=order_id, sequence=2)
    deliver_all(delivery(notification_database, transport))
    assert len(mailbox.messages) == 1


def test_a_mail_refused_for_now_is_sent_later(
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


def test_a_mail_refused_for_good_is_kept_with_the_reason_and_logged_once(
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


def test_after_the_last_attempt_a_mail_is_given_up(
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


def test_a_mail_that_cannot_be_rendered_waits_and_holds_up_nothing(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "rejected", context={})
    record(notification_database, "received")
    deliver_all(delivery(notification_database, transport))
    first, _ = rows(notification_database)
    assert statuses(notification_database) == ["PENDING", "SENT"]
    assert first.last_error == "UndefinedError: raised in templates/rejected.txt:5, block 'message'"


def test_a_mail_that_fails_as_nobody_expected_holds_up_nothing(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    surprises = [ZeroDivisionError("surprise")]

    def send(self: Transport, letter: Letter, sends: Any = Transport.send) -> None:
        if surprises:
            raise surprises.pop()
        sends(self, letter)

    monkeypatch.setattr(Transport, "send", send)
    record(notification_database, "received")
    record(notification_database, "received")
    deliver_all(delivery(notification_database, transport))
    assert statuses(notification_database) == ["PENDING", "SENT"]
    assert rows(notification_database)[0].last_error.startswith(
        "ZeroDivisionError: raised in mail/test_failed_mails.py:"
    )


def test_a_mail_that_is_held_never_leaves_and_holds_up_no_other(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    # given
    order_id = record(notification_database, "received", status="HELD")
    record(notification_database, "confirmed", order_id=order_id, sequence=2)

    # when
    deliver_all(delivery(notification_database, transport))

    # then
    assert statuses(notification_database) == ["HELD", "SENT"]
    assert len(mailbox.messages) == 1
