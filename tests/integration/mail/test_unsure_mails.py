"""Emails whose reply is lost or whose mailer is killed: repeated late, and only a few times."""

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import pytest
from sqlalchemy import text

from eventbus.database.db import Sessions, engine, sessions, transaction
from eventbus.settings.database import DatabaseSettings
from notification_worker.delivery import Delivery
from notification_worker.domain import MAX_UNSURE, unsure_delay
from notification_worker.smtp.transport import Transport
from testkit.eventually import becomes, eventually
from testkit.mail.mailers import a_mailer, all_sent, content_count, first_content, mailing
from testkit.mail.mailing import (
    delivery,
    expire_claims,
    make_due,
    of_database,
    record,
    rows,
    settings,
    statuses,
)
from testkit.mail.smtp_server import DROP, HANG, SmtpServer, serving

#: The database rejects every outcome of an email, and accepts them again.
_REJECT = "ALTER TABLE notifications ADD CONSTRAINT no_mark CHECK (status = 'PENDING')"
_ACCEPT = "ALTER TABLE notifications DROP CONSTRAINT no_mark"


@pytest.mark.parametrize("answer", [DROP, HANG, "nonsense", "354 go on"])
def test_an_unsure_mail_is_repeated_late_with_the_same_message_id(
    notification_database: Sessions, answer: str
) -> None:
    for _ in range(5):
        record(notification_database, "received")
    with (
        serving(first_content(answer)) as server,
        mailing(a_mailer(notification_database, server, smtp_accept_timeout=5.0)),
    ):
        # Given an email whose reply is lost
        def others_sent() -> None:
            assert sorted(statuses(notification_database)) == ["PENDING"] + ["SENT"] * 4
            assert sum(row.unsure for row in rows(notification_database)) == 1

        eventually(others_sent)
        [unsure] = [row for row in rows(notification_database) if row.status == "PENDING"]
        assert (unsure.attempts, unsure.claimed_by) == (1, None)
        with transaction(notification_database) as session:
            wait = text(
                "SELECT extract(epoch FROM next_attempt_at - now()) FROM notifications"
                " WHERE status = 'PENDING'"
            )
            assert session.scalar(wait) > unsure_delay(1) - 120

        # When it is due again, and the server answers
        server.answers["CONTENT"] = "250 taken"
        make_due(notification_database)
        eventually(all_sent(notification_database, 5))

        # Then it was delivered twice, and the others once
        assert sorted(server.copies.values()) == [1, 1, 1, 1, 2]
        assert server.copies[str(unsure.message_id)] == 2


def test_a_mail_without_any_answer_fails_after_few_copies(
    notification_database: Sessions,
) -> None:
    record(notification_database, "received")
    with (
        serving({"CONTENT": DROP}) as server,
        mailing(a_mailer(notification_database, server)),
    ):

        def given_up() -> None:
            make_due(notification_database)
            assert statuses(notification_database) == ["FAILED"]

        eventually(given_up)
        [row] = rows(notification_database)
        assert (row.unsure, row.attempts) == (MAX_UNSURE, MAX_UNSURE)
        assert list(server.copies.values()) == [MAX_UNSURE]


def test_an_unsure_mail_does_not_delay_later_mails_of_its_order(
    notification_database: Sessions,
) -> None:
    record(notification_database, "received", "confirmed")
    with (
        serving(first_content(DROP)) as server,
        mailing(a_mailer(notification_database, server)),
    ):
        becomes(lambda: statuses(notification_database), ["PENDING", "SENT"])


def test_a_rejected_mark_is_retried_and_the_mail_sent_once(
    notification_database: Sessions,
) -> None:
    record(notification_database, "received")
    with transaction(notification_database) as session:
        session.execute(text(_REJECT))
    with serving() as server, mailing(a_mailer(notification_database, server)):
        eventually(content_count(server, 1))
        time.sleep(0.5)
        with transaction(notification_database) as session:
            session.execute(text(_ACCEPT))
        eventually(all_sent(notification_database, 1))
        assert len(server.contents) == 1


def test_each_of_several_rejected_marks_is_retried(notification_database: Sessions) -> None:
    # Given three emails that three senders are sending at the same time
    answered = threading.Event()

    def content(_: str) -> str:
        answered.wait(60)
        return "250 taken"

    for _ in range(3):
        record(notification_database, "received")
    with (
        serving({"CONTENT": content}) as server,
        mailing(mailer := a_mailer(notification_database, server)),
    ):
        eventually(content_count(server, 3))

        # When the database rejects every outcome for a while
        with transaction(notification_database) as session:
            session.execute(text(_REJECT))
        answered.set()
        eventually(lambda: _assert_unrecorded(mailer, 3))
        with transaction(notification_database) as session:
            session.execute(text(_ACCEPT))

        # Then each outcome is recorded, and no email is sent again
        eventually(all_sent(notification_database, 3))
        assert len(server.contents) == 3


def _assert_unrecorded(mailer: Delivery, count: int) -> None:
    assert sum(sender._mark is not None for sender in mailer._senders) == count


def _mail_until_killed(database: dict[str, Any], port: int) -> None:
    own = sessions(engine(DatabaseSettings(**database), pool_size=2))
    mailer = delivery(own, Transport(settings(port)))
    while True:
        mailer.deliver(time.monotonic() + 1)


@pytest.mark.parametrize(
    ("step", "copies"), [("MAIL", 1), ("RCPT", 1), ("DATA", 1), ("CONTENT", 2)]
)
def test_a_mail_of_a_killed_mailer_is_sent_by_another_mailer(
    notification_database: Sessions, step: str, copies: int
) -> None:
    record(notification_database, "received")
    with serving({step: HANG}) as server:
        # Given a mailer that is killed at this step
        _kill_while_it_waits(notification_database, server, step)
        with mailing(a_mailer(notification_database, server)):
            # When its lease has expired and another mailer runs
            server.answers[step] = "354 go on" if step == "DATA" else "250 ok"
            expire_claims(notification_database)

            # Then the email is sent
            eventually(all_sent(notification_database, 1))
        assert list(server.copies.values()) == [copies]
        assert rows(notification_database)[0].unsure == 1


def test_a_mail_of_two_killed_mailers_is_deferred(
    notification_database: Sessions,
) -> None:
    record(notification_database, "received")
    with serving({"CONTENT": HANG}) as server:
        for _ in range(2):
            _kill_while_it_waits(notification_database, server, "CONTENT")
            expire_claims(notification_database)
        with mailing(a_mailer(notification_database, server)):
            becomes(lambda: rows(notification_database)[0].claimed_by, None)
        [row] = rows(notification_database)
        assert (row.status, row.unsure) == ("PENDING", 2)
        assert list(server.copies.values()) == [2]


def _kill_while_it_waits(sessions: Sessions, server: SmtpServer, step: str) -> None:
    received = server.contents if step == "CONTENT" else server.commands
    before = len(received)
    process = multiprocessing.get_context("spawn").Process(
        target=_mail_until_killed, args=(of_database(sessions), server.port), daemon=True
    )
    process.start()

    def waits() -> None:
        assert len(received) > before
        assert step == "CONTENT" or server.commands[-1].startswith(step)

    eventually(waits)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join(timeout=60)
    process.close()
