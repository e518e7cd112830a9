"""The mailer during outages of the mail server and the database, and while it is idle."""

import socket
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from threading import Event
from uuid import uuid4

import pytest
from sqlalchemy import text

from eventbus.database.db import BY_KEY, Sessions, engine, transaction
from eventbus.database.wakeup import Wakeup
from notification_worker import claims
from notification_worker.claims import SHORTLY
from notification_worker.domain import FIRST_DELAY
from notification_worker.mail.letter import Letter
from notification_worker.smtp.failures import Unreachable
from notification_worker.smtp.transport import Transport
from testkit.eventually import eventually
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailing import deliver_all, delivery, make_due, record, rows, settings, statuses
from testkit.servers.databases import TestDatabase


def test_a_failing_database_pauses_delivery(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "received")
    mailer = delivery(notification_database, transport)
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE notifications RENAME TO away"))

    def paused() -> None:
        mailer.deliver(time.monotonic() + 0.1)
        assert mailer._outage.resume_at > time.monotonic()

    eventually(paused)
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE away RENAME TO notifications"))

    def sent() -> None:
        mailer.deliver(time.monotonic() + 0.2)
        assert statuses(notification_database) == ["SENT"]

    eventually(sent)
    mailer.close()


def test_a_database_outage_ends_without_a_waiting_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    # Given a failing database without emails
    mailer = delivery(notification_database, transport)
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE notifications RENAME TO away"))

    def paused() -> None:
        mailer.deliver(time.monotonic() + 0.2)
        assert mailer._outage.seconds() > 0

    eventually(paused)

    # When it works again
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE away RENAME TO notifications"))

    # Then delivery is no longer paused
    def resumed() -> None:
        mailer.deliver(time.monotonic() + 0.2)
        assert mailer._outage.seconds() == 0

    eventually(resumed)
    mailer.close()


def test_a_mail_server_outage_is_charged_to_no_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    for _ in range(20):
        record(notification_database, "received")
    mailer = delivery(notification_database, transport)
    mailbox.stop()
    deliver_all(mailer)
    assert {row.attempts for row in rows(notification_database)} == {0}
    mailbox.start()

    def all_sent() -> None:
        deliver_all(mailer)
        assert statuses(notification_database) == ["SENT"] * 20

    eventually(all_sent)
    assert len(mailbox.messages) == 20


def test_a_plan_made_for_an_empty_table_uses_the_indexes(
    database_of: Callable[[str], TestDatabase],
) -> None:
    of_mailer = engine(database_of("notification").service_settings, session=BY_KEY)
    with of_mailer.connect() as connection:
        values = (0, "epoch", [], str(uuid4()), SHORTLY)
        plans = []
        for again in (False, True):
            claims.claim(connection, again=again, values=values, mark=())
            name = "claim_again" if again else "claim_fresh"
            explain = f"EXPLAIN EXECUTE {name} (%s, %s, %s, %s, %s)"
            plans.append("\n".join(connection.exec_driver_sql(explain, values).scalars()))
    of_mailer.dispose()
    for plan in plans:
        assert plan.count("using ix_notifications_due") == 3
        assert "using uq_notifications_order_id" in plan
        assert "Sort" not in plan
        assert "Seq Scan" not in plan


def test_a_database_that_rejects_marks_causes_a_backoff(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record(notification_database, "received")
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE notifications ADD CHECK (status = 'PENDING')"))
    failures: list[int] = []

    def no_pause(failure: int, **_: float) -> float:
        failures.append(failure)
        return 0.05

    monkeypatch.setattr("notification_worker.outage.retry_delay", no_pause)
    mailer = delivery(notification_database, transport)

    def failed() -> None:
        mailer.deliver(time.monotonic() + 0.2)
        assert failures[:3] == [1, 2, 3]

    eventually(failed)
    mailer.close()
    # And the email, which was delivered, is not sent again
    assert len(mailbox.messages) == 1


def test_a_mailer_gathers_mails_before_it_waits_for_a_wakeup(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[object] = []
    monkeypatch.setattr("notification_worker.smtp.sender.GATHERING", 60.0)
    monkeypatch.setattr(Wakeup, "wait", lambda *arguments: waits.append(arguments))
    record(notification_database, "received")
    mailer = delivery(notification_database, transport)

    def sent() -> None:
        mailer.deliver(time.monotonic() + 1)
        assert len(mailbox.messages) == 1

    eventually(sent)
    mailer.close()
    assert waits == []


def test_a_mailer_claims_no_mail_after_its_time_is_over(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    for _ in range(3):
        record(notification_database, "received")
    sending, go_on = Event(), Event()

    class Held(Transport):
        def send(self, letter: Letter) -> None:
            sending.set()
            assert go_on.wait(60)
            super().send(letter)

    with closing(Held(settings(mailbox.port))) as held:
        mailer = delivery(notification_database, held)
        # Given an email that is being sent when the time is over
        while not sending.is_set():
            mailer.deliver(time.monotonic() + 0.2)
        assert statuses(notification_database) == ["PENDING"] * 3
        # When it is sent after that
        go_on.set()
        mailer.finish(within=60)
    # Then it is recorded, and no other email was sent
    assert statuses(notification_database) == ["SENT", "PENDING", "PENDING"]
    deliver_all(delivery(notification_database, transport), seconds=1)
    assert len(mailbox.messages) == 3


def test_a_paused_mailer_makes_no_connections(
    notification_database: Sessions, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(notification_database, "received")
    tries: list[float] = []

    def refuse(_: Transport) -> None:
        tries.append(time.monotonic())
        raise Unreachable

    monkeypatch.setattr(Transport, "open", refuse)
    mailer = delivery(notification_database, transport)
    for _ in range(10):
        deliver_all(mailer, seconds=0.1)
    assert tries
    # On a busy machine, an attempt can take longer than the pause.
    assert all(later - earlier >= 0.75 * FIRST_DELAY for earlier, later in pairwise(tries))


def test_a_broken_connection_is_charged_to_no_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    mailer = delivery(notification_database, transport)
    record(notification_database, "received")
    deliver_all(mailer)
    mailbox.stop()
    for _ in range(5):
        record(notification_database, "received")
    deliver_all(mailer)
    assert {row.attempts for row in rows(notification_database) if row.status == "PENDING"} == {0}
    mailbox.start()

    def all_sent() -> None:
        make_due(notification_database)
        deliver_all(mailer)
        assert statuses(notification_database) == ["SENT"] * 6

    eventually(all_sent)


def test_a_server_shutdown_is_charged_to_no_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "received")
    record(notification_database, "received")
    mailbox.refuse(421, "going down")
    deliver_all(delivery(notification_database, transport))
    mails = rows(notification_database)
    assert {(row.status, row.attempts) for row in mails} == {("PENDING", 0)}
    # On a slow machine, the pause can end before the wait, and another email is tried.
    assert "421 going down" in {row.last_error for row in mails}


def test_a_silent_mail_server_times_out(
    notification_database: Sessions, caplog: pytest.LogCaptureFixture
) -> None:
    record(notification_database, "received")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        transport = Transport(settings(mute.getsockname()[1], smtp_connect_timeout=0.2))
        mailer = delivery(notification_database, transport)

        def left() -> None:
            mailer.deliver(time.monotonic() + 0.2)
            assert "mail server unavailable" in caplog.messages

        eventually(left)
        mailer.close()
    [row] = rows(notification_database)
    assert (row.status, row.attempts) == ("PENDING", 0)
