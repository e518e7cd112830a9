"""A slow mail server: each email is delivered once, and other emails are sent in the meantime."""

import time

import pytest
from sqlalchemy import text

from eventbus.database.db import Sessions, transaction
from notification_worker import mail_queue as backlog_module
from testkit.eventually import eventually
from testkit.mail.mailers import SENDERS, a_mailer, all_sent, content_count, first_content, mailing
from testkit.mail.mailing import expire_claims, record, rows, statuses
from testkit.mail.smtp_server import HANG, Slow, serving


def test_a_slow_server_gets_each_mail_once_and_several_at_a_time(
    notification_database: Sessions,
) -> None:
    # Given a server that answers later than a mailer takes to open another connection
    for _ in range(SENDERS * 2):
        record(notification_database, "received")
    at_once: list[int] = []

    with serving({"CONTENT": Slow(4.0, "250 taken")}) as server:
        # When a mailer with several connections sends many emails
        with mailing(a_mailer(notification_database, server)):

            def sent() -> None:
                at_once.append(len(server.contents) - statuses(notification_database).count("SENT"))
                all_sent(notification_database, SENDERS * 2)()

            eventually(sent)

        # Then each email is delivered once, and several were in progress at the same time
        assert set(server.copies.values()) == {1}
    assert {row.attempts for row in rows(notification_database)} == {1}
    assert max(at_once) > 1


def test_an_unanswered_mail_does_not_delay_other_mails(
    notification_database: Sessions,
) -> None:
    for _ in range(20):
        record(notification_database, "received")
    with (
        serving(first_content(HANG)) as server,
        mailing(a_mailer(notification_database, server)),
    ):

        def others_sent() -> None:
            assert statuses(notification_database).count("SENT") == 19

        eventually(others_sent)
        [waiting] = [row for row in rows(notification_database) if row.status == "PENDING"]
        assert (waiting.attempts, waiting.unsure) == (0, 0)
        assert waiting.claimed_by is not None
        assert set(server.copies.values()) == {1}
        server.stopped.set()


def test_sending_a_mail_holds_no_transaction_and_no_lock(
    notification_database: Sessions,
) -> None:
    record(notification_database, "received")
    with (
        serving({"CONTENT": HANG}) as server,
        mailing(a_mailer(notification_database, server)),
    ):
        eventually(content_count(server, 1))
        with transaction(notification_database) as session:
            open_for_long = session.scalar(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"
                )
            )
            # Another transaction can change the row at once.
            session.execute(text("SET LOCAL lock_timeout = '1s'"))
            session.execute(text("UPDATE notifications SET recipient = 'bob@example.com'"))
        assert open_for_long == 0
        server.stopped.set()


def test_a_claim_is_renewed_while_its_mail_is_being_sent(
    notification_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_module, "RENEWAL", 0.0)
    record(notification_database, "received")
    with (
        serving({"CONTENT": HANG}) as server,
        mailing(a_mailer(notification_database, server)),
    ):
        # Given an email that one mailer is sending, and whose lease has expired
        eventually(content_count(server, 1))
        expire_claims(notification_database)

        def renewed() -> None:
            with transaction(notification_database) as session:
                assert session.scalar(text("SELECT claimed_until > now() FROM notifications"))

        eventually(renewed)

        # When another mailer runs
        a_mailer(notification_database, server).deliver(time.monotonic() + 1)

        # Then it does not send the email
        assert len(server.contents) == 1
        server.stopped.set()


def test_two_mailers_and_a_slow_server_send_each_mail_once(
    notification_database: Sessions,
) -> None:
    for _ in range(12):
        record(notification_database, "received", "confirmed")
    with (
        serving({"CONTENT": Slow(1.5, "250 taken")}) as server,
        mailing(a_mailer(notification_database, server)),
        mailing(a_mailer(notification_database, server)),
    ):
        eventually(all_sent(notification_database, 24))
        assert set(server.copies.values()) == {1}
