"""The mailer sends each email once, and the emails of an order in the order of its events."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import func, update

from eventbus.database.db import Sessions, engine, sessions, transaction
from eventbus.settings.database import DatabaseSettings
from notification_worker.mail.letter import Letter
from notification_worker.models import Notification
from notification_worker.smtp.transport import Transport
from testkit.eventually import PATIENCE, becomes, eventually
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailers import mailing
from testkit.mail.mailing import (
    CONTEXT,
    deliver_all,
    delivery,
    expire_claims,
    make_due,
    of_database,
    record,
    rows,
    settings,
    statuses,
    subjects,
)


def test_a_recorded_mail_is_delivered(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    order_id = record(notification_database, "received")
    deliver_all(delivery(notification_database, transport))
    [message] = mailbox.messages
    assert message["To"] == "ann@example.com"
    assert message["Message-ID"] == f"<{order_id}.received@shop.example>"
    [row] = rows(notification_database)
    assert (row.status, row.attempts, row.message_id) == ("SENT", 1, message["Message-ID"])
    assert row.sent_at is not None
    assert row.last_error is None


def test_an_idle_mailer_sends_a_new_mail_at_once(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    # Given an idle mailer
    with mailing(delivery(notification_database, transport)):
        time.sleep(0.3)

        # When an email is recorded, then it is sent
        record(notification_database, "received")
        becomes(lambda: len(mailbox.messages), 1)


def test_the_mails_of_an_order_arrive_in_event_order(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    order_id = uuid4()
    record(notification_database, "cancelled", order_id=order_id, sequence=3)
    record(notification_database, "confirmed", order_id=order_id, sequence=2)
    record(notification_database, "received", order_id=order_id, sequence=1)
    deliver_all(delivery(notification_database, transport), seconds=1)
    assert subjects(mailbox) == [
        f"We have received your order {order_id}",
        f"Your order {order_id} is confirmed",
        f"Your order {order_id} is cancelled",
    ]


def test_a_deferred_mail_delays_later_mails_of_its_order_only(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    waiting = record(notification_database, "received", "confirmed")
    with transaction(notification_database) as session:
        session.execute(
            update(Notification)
            .where(Notification.kind == "received")
            .values(next_attempt_at=func.now() + func.make_interval(0, 0, 0, 0, 1))
        )
    other = record(notification_database, "received")
    mailer = delivery(notification_database, transport)
    deliver_all(mailer)
    assert subjects(mailbox) == [f"We have received your order {other}"]
    make_due(notification_database)
    deliver_all(mailer)
    assert subjects(mailbox)[1:] == [
        f"We have received your order {waiting}",
        f"Your order {waiting} is confirmed",
    ]


def test_concurrent_mailers_send_each_mail_once_and_in_order(
    notification_database: Sessions, mailbox: Mailbox
) -> None:
    for _ in range(100):
        record(notification_database, "received", "confirmed")
    transports = [Transport(settings(mailbox.port)) for _ in range(3)]
    until = time.monotonic() + PATIENCE
    threads = [
        threading.Thread(target=_until_sent, args=(notification_database, transport, until))
        for transport in transports
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for transport in transports:
        transport.close()
    assert statuses(notification_database) == ["SENT"] * 200
    ids = [message["Message-ID"] for message in mailbox.messages]
    assert set(Counter(ids).values()) == {1}
    for order_id in {row.order_id for row in rows(notification_database)}:
        of_order = [subject for subject in subjects(mailbox) if str(order_id) in subject]
        assert [subject.split()[0] for subject in of_order] == ["We", "Your"]


def _until_sent(sessions: Sessions, transport: Transport, until: float) -> None:
    mailer = delivery(sessions, transport)
    while time.monotonic() < until and set(statuses(sessions)) != {"SENT"}:
        deliver_all(mailer)


def test_a_crash_after_sending_repeats_only_that_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    for _ in range(5):
        record(notification_database, "received")
    crash = multiprocessing.get_context("spawn").Process(
        target=_send_two_and_die, args=(of_database(notification_database), mailbox.port)
    )
    crash.start()
    crash.join(timeout=60)
    assert crash.exitcode == -signal.SIGKILL
    crash.close()
    assert sorted(statuses(notification_database)) == ["PENDING"] * 4 + ["SENT"]

    # While the lease lasts, the other emails are sent
    mailer = delivery(notification_database, transport)

    def others_sent() -> None:
        deliver_all(mailer)
        assert sorted(statuses(notification_database)) == ["PENDING"] + ["SENT"] * 4

    eventually(others_sent)
    assert len(mailbox.messages) == 5

    # And after it, the email that may have been sent
    expire_claims(notification_database)
    deliver_all(mailer, seconds=1)
    assert statuses(notification_database) == ["SENT"] * 5
    times = Counter(message["Message-ID"] for message in mailbox.messages)
    assert sorted(times.values()) == [1, 1, 1, 1, 2]


class _DyingTransport(Transport):
    sent = 0

    def send(self, letter: Letter) -> None:
        super().send(letter)
        self.sent += 1
        if self.sent == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def _send_two_and_die(database: dict[str, Any], port: int) -> None:
    own = sessions(engine(DatabaseSettings(**database), pool_size=2))
    deliver_all(delivery(own, _DyingTransport(settings(port))), seconds=PATIENCE)


def test_mails_to_the_operator_and_customers_are_independent(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    # Given deferred emails of an order, and an email to the operator
    order_id = record(notification_database, "received", "confirmed")
    with transaction(notification_database) as session:
        later = func.now() + timedelta(hours=1)
        session.execute(update(Notification).values(next_attempt_at=later))
    suspicion = {"customer_email": "ann@example.com", "client_ip": None, "score": 1, "reasons": []}
    operators = {"recipient": "operator", "context": CONTEXT | suspicion}
    record(notification_database, "suspected", order_id=order_id, sequence=None, **operators)

    # When the mailer runs
    deliver_all(delivery(notification_database, transport))

    # Then only the email to the operator is sent
    assert statuses(notification_database) == ["PENDING", "PENDING", "SENT"]
    [message] = mailbox.messages
    assert str(message["To"]) == "operator@shop.example"

    # And a deferred email to the operator does not delay the order's emails
    with transaction(notification_database) as session:
        waiting = update(Notification).where(Notification.kind == "suspected")
        session.execute(waiting.values(status="PENDING", next_attempt_at=later))
        others = update(Notification).where(Notification.kind != "suspected")
        session.execute(others.values(next_attempt_at=func.now()))
    deliver_all(delivery(notification_database, transport))
    assert statuses(notification_database) == ["SENT", "SENT", "PENDING"]
