import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import certifi
import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import URL, func, select, text, update

from common.db import Sessions, engine, sessions, transaction
from common.errors import Permanent, Transient
from common.settings import DatabaseSettings
from notification_worker import address, backlog
from notification_worker.delivery import Delivery
from notification_worker.domain import FIRST_DELAY
from notification_worker.models import Notification
from notification_worker.settings import MailerSettings
from notification_worker.smtp import Transport, Unreachable
from tests.support.eventually import eventually
from tests.support.mailbox import Mailbox
from tests.support.workers import own_ports

CONTEXT = {
    "currency": "EUR",
    "total": 2980,
    "lines": [{"sku": "COFFEE", "quantity": 2, "unit_price": 1490}],
    "shortages": [],
    "reason": "customer",
}


def settings(port: int, **changes: Any) -> MailerSettings:
    values: dict[str, Any] = {
        "broker_user": "notification",
        "broker_password": "unused",
        "database_name": "unused",
        "database_user": "unused",
        "database_password": "unused",
        "broker_ca_file": certifi.where(),
        "database_ca_file": certifi.where(),
        "mail_from": "Shop <orders@shop.example>",
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        # As in life: a mail server on a busy machine may take a second.
        "smtp_timeout": 10.0,
    }
    return MailerSettings(**(values | changes))


def delivery(sessions: Sessions, transport: Transport, *, max_attempts: int = 230) -> Delivery:
    return Delivery(
        sessions,
        transport,
        sender=address.sender("Shop <orders@shop.example>"),
        max_attempts=max_attempts,
    )


@pytest.fixture
def transport(mailbox: Mailbox) -> Iterator[Transport]:
    transport = Transport(settings(mailbox.port))
    yield transport
    transport.close()


def deliver_all(delivery: Delivery, *, seconds: float = 0.2) -> None:
    # On a busy machine one slice may be over before the first mail: a few more may follow.
    for _ in range(5):
        delivery.deliver(time.monotonic() + seconds)
        with transaction(delivery._sessions) as session:
            if not backlog.anything_due(session):
                return


def record(sessions: Sessions, *kinds: str, order_id: UUID | None = None, **values: Any) -> UUID:
    """Record a mail of each kind about one order."""
    order_id = order_id or uuid4()
    with transaction(sessions) as session:
        for sequence, kind in enumerate(kinds, start=1):
            row: dict[str, Any] = {
                "order_id": order_id,
                "kind": kind,
                "sequence": sequence,
                "recipient": "ann@example.com",
                "context": CONTEXT,
            }
            session.add(Notification(**(row | values)))
            session.flush()
    return order_id


def rows(sessions: Sessions) -> list[Notification]:
    with transaction(sessions) as session:
        return list(session.scalars(select(Notification).order_by(Notification.id)))


def statuses(sessions: Sessions) -> list[str]:
    return [row.status for row in rows(sessions)]


def make_due(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        session.execute(update(Notification).values(next_attempt_at=func.now()))


def subjects(mailbox: Mailbox) -> list[str]:
    return [str(message["Subject"]) for message in mailbox.messages]


def test_a_recorded_mail_arrives(
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


def test_a_mail_that_comes_while_idle_leaves_at_once(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    idle = threading.Timer(0.3, record, [notification_database, "received"])
    idle.start()
    deliver_all(delivery(notification_database, transport), seconds=0.6)
    idle.join()
    assert len(mailbox.messages) == 1


def test_the_mails_of_one_order_arrive_in_the_order_of_its_events(
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


def test_a_later_mail_waits_for_an_earlier_one_and_another_order_does_not(
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
    assert first.last_error == "UndefinedError: 'shortages' is undefined"


def test_a_mail_that_fails_as_nobody_expected_holds_up_nothing(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    surprises = [ZeroDivisionError("surprise")]

    def send(self: Transport, message: EmailMessage, sends: Any = Transport.send) -> None:
        if surprises:
            raise surprises.pop()
        sends(self, message)

    monkeypatch.setattr(Transport, "send", send)
    record(notification_database, "received")
    record(notification_database, "received")
    deliver_all(delivery(notification_database, transport))
    assert statuses(notification_database) == ["PENDING", "SENT"]
    assert rows(notification_database)[0].last_error == "ZeroDivisionError: surprise"


def test_a_database_that_fails_is_given_time(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "received")
    mailer = delivery(notification_database, transport)
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE notifications RENAME TO away"))
    mailer.deliver(time.monotonic() + 1)
    with transaction(notification_database) as session:
        session.execute(text("ALTER TABLE away RENAME TO notifications"))
    deliver_all(mailer)
    assert statuses(notification_database) == ["PENDING"]

    def sent() -> None:
        deliver_all(mailer)
        assert statuses(notification_database) == ["SENT"]

    eventually(sent)


def test_an_outage_of_the_mail_server_is_charged_to_no_mail(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    for _ in range(20):
        record(notification_database, "received")
    mailer = delivery(notification_database, transport)
    mailbox.stop()
    deliver_all(mailer)
    assert {row.attempts for row in rows(notification_database)} == {0}
    mailbox.start()
    time.sleep(1.0)  # the pause after a first failure
    deliver_all(mailer, seconds=2)
    assert statuses(notification_database) == ["SENT"] * 20
    assert len(mailbox.messages) == 20


def test_while_it_pauses_it_asks_nobody(
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
    # On a busy machine this may take longer than the pause.
    assert all(later - earlier >= 0.75 * FIRST_DELAY for earlier, later in pairwise(tries))


def test_a_connection_that_breaks_costs_one_mail_one_attempt(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    mailer = delivery(notification_database, transport)
    record(notification_database, "received")
    deliver_all(mailer)
    mailbox.stop()
    for _ in range(5):
        record(notification_database, "received")
    deliver_all(mailer)
    attempts = sum(row.attempts for row in rows(notification_database) if row.status == "PENDING")
    assert attempts <= 1
    mailbox.start()
    make_due(notification_database)
    time.sleep(1.0)
    deliver_all(mailer, seconds=1)
    assert statuses(notification_database) == ["SENT"] * 6


def test_a_mail_server_that_says_nothing_is_left_after_the_timeout(
    notification_database: Sessions,
) -> None:
    record(notification_database, "received")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        transport = Transport(settings(mute.getsockname()[1], smtp_timeout=0.2))
        started = time.monotonic()
        deliver_all(delivery(notification_database, transport), seconds=30)
        # The timeout of life is more than that.
        assert time.monotonic() - started < 8
    [row] = rows(notification_database)
    assert (row.status, row.attempts) == ("PENDING", 0)


class _Refusing:
    """Refuses at one command of the dialogue."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    async def handle_DATA(self, *_: object) -> str:  # noqa: N802
        return self._answer


class _RefusingSender(_Refusing):
    async def handle_MAIL(self, *_: object) -> str:  # noqa: N802
        return self._answer


class _RefusingRecipient(_Refusing):
    async def handle_RCPT(self, *_: object) -> str:  # noqa: N802
        return self._answer


@pytest.mark.parametrize(
    ("handler", "verdict"),
    [
        (_RefusingRecipient("550 no such user"), Permanent),
        (_RefusingRecipient("450 mailbox busy"), Transient),
        (_RefusingRecipient("421 going down"), Unreachable),
        (_RefusingSender("552 too big"), Permanent),
        (_RefusingSender("550 who are you"), Unreachable),
        (_RefusingSender("451 try later"), Transient),
        (_Refusing("554 spam"), Permanent),
        (_Refusing("421 going down"), Unreachable),
    ],
)
def test_what_the_mail_server_says(handler: _Refusing, verdict: type[Exception]) -> None:
    with listening(handler) as port, connected(port) as transport:
        with pytest.raises(verdict, match=handler._answer) as refusal:
            transport.send(a_message())
        assert type(refusal.value) is verdict
        assert transport.is_ready() is (verdict is not Unreachable)


def test_an_address_that_the_mail_server_cannot_write_is_refused_for_good() -> None:
    with listening(_Refusing("250 ok")) as port, connected(port) as transport:
        with pytest.raises(Permanent, match="SMTPUTF8"):
            transport.send(a_message("j\u00f6rg@example.com"))
        transport.send(a_message())


def test_without_the_encryption_that_is_asked_for_nothing_is_sent() -> None:
    with listening(_Refusing("250 ok")) as port:
        transport = Transport(settings(port, smtp_starttls=True))
        with pytest.raises(Unreachable, match="STARTTLS"):
            transport.open()


@contextmanager
def listening(handler: _Refusing) -> Iterator[int]:
    controller = Controller(
        handler, hostname="127.0.0.1", port=own_ports().smtp_port, enable_SMTPUTF8=False
    )
    controller.start()
    try:
        yield int(controller.port)
    finally:
        controller.stop()


@contextmanager
def connected(port: int) -> Iterator[Transport]:
    transport = Transport(settings(port))
    transport.open()
    try:
        yield transport
    finally:
        transport.close()


def a_message(recipient: str = "ann@example.com") -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = "orders@shop.example"
    message["To"] = recipient
    message.set_content("Hello")
    return message


def test_mailers_side_by_side_send_each_mail_once_and_in_order(
    notification_database: Sessions, mailbox: Mailbox
) -> None:
    for _ in range(100):
        record(notification_database, "received", "confirmed")
    transports = [Transport(settings(mailbox.port)) for _ in range(3)]
    until = time.monotonic() + 20
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


def test_a_crash_between_sending_and_recording_repeats_that_mail_only(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    for _ in range(5):
        record(notification_database, "received")
    with notification_database() as session:
        url = session.get_bind().engine.url
    crash = multiprocessing.get_context("spawn").Process(
        target=_send_two_and_die, args=(_database(url), mailbox.port)
    )
    crash.start()
    crash.join(timeout=30)
    assert crash.exitcode == -signal.SIGKILL
    crash.close()
    assert sorted(statuses(notification_database)) == ["PENDING"] * 4 + ["SENT"]
    deliver_all(delivery(notification_database, transport), seconds=1)
    assert statuses(notification_database) == ["SENT"] * 5
    times = Counter(message["Message-ID"] for message in mailbox.messages)
    assert sorted(times.values()) == [1, 1, 1, 1, 2]


def _database(url: URL) -> dict[str, Any]:
    return {
        "database_host": url.host,
        "database_port": url.port,
        "database_name": url.database,
        "database_user": url.username,
        "database_password": url.password or "",
        "database_ca_file": url.query["sslrootcert"],
    }


class _DyingTransport(Transport):
    sent = 0

    def send(self, message: EmailMessage) -> None:
        super().send(message)
        self.sent += 1
        if self.sent == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def _send_two_and_die(database: dict[str, Any], port: int) -> None:
    own = sessions(engine(DatabaseSettings(**database)))
    deliver_all(delivery(own, _DyingTransport(settings(port))), seconds=30)
