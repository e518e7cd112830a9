import logging
import multiprocessing
import os
import signal
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import certifi
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import URL, func, select, text, update

from common.db import BY_KEY, Sessions, engine, sessions, transaction
from common.doorbell import Doorbell
from common.errors import Permanent, Transient
from common.settings import DatabaseSettings
from notification_worker import address, backlog
from notification_worker.delivery import Delivery
from notification_worker.domain import FIRST_DELAY
from notification_worker.letter import Letter
from notification_worker.models import Notification
from notification_worker.settings import MailerSettings
from notification_worker.smtp import Transport, Unreachable
from tests.support.databases import TestDatabase
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
        operator="operator@shop.example",
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
    assert first.last_error == "UndefinedError: 'shortages' is undefined"


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


def test_a_plan_that_was_made_while_no_mail_was_there_is_good_for_many(
    database_of: Callable[[str], TestDatabase],
) -> None:
    of_mailer = engine(database_of("notification").service_settings, session=BY_KEY)
    with of_mailer.connect() as connection:
        assert backlog.claim(connection) is None
        plan = "\n".join(connection.exec_driver_sql("EXPLAIN EXECUTE claim_mail").scalars())
    of_mailer.dispose()
    assert "using ix_notifications_due" in plan
    assert "using uq_notifications_order_id" in plan
    assert "Sort" not in plan


def test_a_database_that_takes_no_mark_is_asked_less_and_less(
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
        return 0.0

    monkeypatch.setattr("notification_worker.delivery.retry_delay", no_pause)
    mailer = delivery(notification_database, transport)
    for _ in range(3):
        mailer.deliver(time.monotonic() + 1)
    assert failures == [1, 2, 3]


def test_after_a_mail_it_lets_others_gather_before_it_asks_to_be_woken(
    notification_database: Sessions,
    mailbox: Mailbox,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[object] = []
    monkeypatch.setattr("notification_worker.delivery.GATHERING", 60.0)
    monkeypatch.setattr(Doorbell, "wait", lambda *about: waits.append(about))
    record(notification_database, "received")
    deliver_all(delivery(notification_database, transport), seconds=0.5)
    assert len(mailbox.messages) == 1
    assert waits == []


def test_it_stops_when_its_time_is_over_and_the_rest_leaves_later(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    for _ in range(3):
        record(notification_database, "received")

    class Slow(Transport):
        until = 0.0

        def send(self, letter: Letter) -> None:
            super().send(letter)
            eventually(self.time_is_over)

        def time_is_over(self) -> None:
            assert time.monotonic() >= self.until

    with closing(Slow(settings(mailbox.port))) as slow:
        mailer = delivery(notification_database, slow)
        # On a busy machine the time may be over before the first mail.
        while statuses(notification_database) == ["PENDING"] * 3:
            slow.until = time.monotonic() + 0.3
            mailer.deliver(slow.until)
    assert statuses(notification_database) == ["SENT", "PENDING", "PENDING"]
    deliver_all(delivery(notification_database, transport), seconds=1)
    assert len(mailbox.messages) == 3


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


def test_a_mail_with_which_the_server_goes_away_has_had_its_attempt(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    record(notification_database, "received")
    record(notification_database, "received")
    mailbox.refuse(421, "going down")
    deliver_all(delivery(notification_database, transport))
    first, second = rows(notification_database)
    assert (first.status, first.attempts, first.last_error) == ("PENDING", 1, "421 going down")
    assert (second.status, second.attempts) == ("PENDING", 0)


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
        self.pipelining = False

    async def handle_EHLO(  # noqa: N802
        self, _: object, session: Session, __: object, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if self.pipelining:
            responses.insert(1, "250-PIPELINING")
        return responses

    async def handle_DATA(self, *_: object) -> str:  # noqa: N802
        return self._answer


class _RefusingSender(_Refusing):
    async def handle_MAIL(self, *_: object) -> str:  # noqa: N802
        return self._answer


class _RefusingRecipient(_Refusing):
    async def handle_RCPT(self, *_: object) -> str:  # noqa: N802
        return self._answer


with_and_without_pipelining = pytest.mark.parametrize("pipelining", [True, False])


@with_and_without_pipelining
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
def test_what_the_mail_server_says(
    handler: _Refusing, verdict: type[Exception], pipelining: bool
) -> None:
    handler.pipelining = pipelining
    with listening(handler) as port, connected(port) as transport:
        with pytest.raises(verdict, match=handler._answer) as refusal:
            transport.send(a_letter())
        assert type(refusal.value) is verdict
        assert transport.is_ready() is (verdict is not Unreachable)


@with_and_without_pipelining
def test_an_address_that_the_mail_server_cannot_write_is_refused_for_good(pipelining: bool) -> None:
    handler = _Refusing("250 ok")
    handler.pipelining = pipelining
    with listening(handler) as port, connected(port) as transport:
        with pytest.raises(Permanent, match="SMTPUTF8"):
            transport.send(a_letter("j\u00f6rg@example.com"))
        transport.send(a_letter())


class _Choosy(_Refusing):
    """Refuses one recipient, and keeps what the others get."""

    def __init__(self, *, pipelining: bool) -> None:
        super().__init__("550 no such user")
        self.pipelining = pipelining
        self.kept: list[object] = []

    async def handle_RCPT(  # noqa: N802
        self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody"):
            return self._answer
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        self.kept.append((envelope.rcpt_tos, envelope.content))
        return "250 kept"


@with_and_without_pipelining
def test_a_refused_recipient_disturbs_no_other_mail(
    notification_database: Sessions, pipelining: bool
) -> None:
    for number in range(9):
        name = "nobody" if number % 3 == 1 else "ann"
        record(notification_database, "received", recipient=f"{name}{number}@example.com")
    handler = _Choosy(pipelining=pipelining)
    with listening(handler) as port, connected(port) as transport:
        deliver_all(delivery(notification_database, transport), seconds=2)
    assert statuses(notification_database) == ["SENT", "FAILED", "SENT"] * 3
    assert {row.attempts for row in rows(notification_database)} == {1}
    for (recipients, content), number in zip(handler.kept, (0, 2, 3, 5, 6, 8), strict=True):
        assert recipients == [f"ann{number}@example.com"]
        assert f"To: ann{number}@example.com".encode() in content


@with_and_without_pipelining
def test_lines_that_begin_with_a_dot_arrive_as_they_are(pipelining: bool) -> None:
    handler = _Choosy(pipelining=pipelining)
    letter = a_letter(text=b".\r\n..two\r\n.end\r\n")
    with listening(handler) as port, connected(port) as transport:
        transport.send(letter)
    assert handler.kept == [(["ann@example.com"], letter.content)]


class _Scripted(socketserver.StreamRequestHandler):
    """A mail server that hears each mail's commands as it offers to, and writes down what it got.

    It refuses the recipient `nobody` but asks for the content all the same, as RFC 2920 allows;
    with the recipient `late` it goes away.
    """

    server: "_ScriptedServer"

    def handle(self) -> None:
        with suppress(EOFError):
            self._converse()

    def _converse(self) -> None:
        self._say("220 ready")
        while command := self.connection.recv(4_096).decode().upper():
            if command.startswith("EHLO"):
                self._say("250-here", "250 PIPELINING" if self.server.pipelining else "250 HELP")
            else:
                self.server.heard.append(command)
                self._answer(command)

    def _answer(self, commands: str) -> None:
        if self.server.pipelining and commands.startswith("MAIL"):
            # Not a word before all three are here.
            while not commands.endswith("DATA\r\n"):
                commands += self._heard().decode().upper()
        for command in commands.splitlines():
            if command.startswith("RCPT") and "LATE" in command:
                self._say("421 going down")
                raise EOFError
            refused = command.startswith("RCPT") and "NOBODY" in command
            in_data = command == "DATA"
            self._say("550 nobody" if refused else "354 go on" if in_data else "250 ok")
            if in_data:
                self._take_content(to_nobody="NOBODY" in commands)

    def _take_content(self, *, to_nobody: bool) -> None:
        content = b""
        while not content.endswith(b".\r\n"):
            content += self._heard()
        self.server.contents.append(content)
        self._say("554 no valid recipients" if to_nobody else "250 taken")

    def _heard(self) -> bytes:
        # Not for ever, when the mailer has gone.
        if not (data := self.connection.recv(65_536)):
            raise EOFError
        return data

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class _ScriptedServer(socketserver.TCPServer):
    def __init__(self, *, pipelining: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Scripted)
        self.pipelining = pipelining
        self.heard: list[str] = []
        self.contents: list[bytes] = []


@contextmanager
def scripted(*, pipelining: bool) -> Iterator[tuple[_ScriptedServer, Transport]]:
    with _ScriptedServer(pipelining=pipelining) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        try:
            with connected(server.server_address[1]) as transport:
                yield server, transport
        finally:
            serving.join(timeout=5)


def test_a_server_that_offers_pipelining_gets_the_commands_at_once() -> None:
    with scripted(pipelining=True) as (server, transport):
        transport.send(a_letter())
        transport.send(a_letter("bob@example.com"))
        assert len(server.contents) == 2


def test_a_server_that_does_not_gets_one_command_at_a_time() -> None:
    with scripted(pipelining=False) as (server, transport):
        transport.send(a_letter())
        assert [line.count("\r\n") for line in server.heard] == [1, 1, 1]


@with_and_without_pipelining
def test_a_server_that_goes_away_in_the_middle_is_heard_to_the_end(pipelining: bool) -> None:
    with (
        scripted(pipelining=pipelining) as (_, transport),
        pytest.raises(Unreachable, match="421 going down"),
    ):
        transport.send(a_letter("late@example.com"))


def test_a_server_that_wants_content_for_nobody_gets_none_and_the_next_mail_leaves() -> None:
    with scripted(pipelining=True) as (server, transport):
        with pytest.raises(Permanent, match="550 nobody"):
            transport.send(a_letter("nobody@example.com"))
        transport.send(a_letter())
        assert server.contents[0] == b".\r\n"
        assert server.contents[1].endswith(b"Hello\r\n.\r\n")


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


def a_letter(recipient: str = "ann@example.com", text: bytes = b"Hello\r\n") -> Letter:
    headers = b"From: orders@shop.example\r\nTo: ann@example.com\r\n\r\n"
    return Letter("orders@shop.example", recipient, headers + text)


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

    def send(self, letter: Letter) -> None:
        super().send(letter)
        self.sent += 1
        if self.sent == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def _send_two_and_die(database: dict[str, Any], port: int) -> None:
    own = sessions(engine(DatabaseSettings(**database)))
    deliver_all(delivery(own, _DyingTransport(settings(port))), seconds=30)


def test_a_mail_to_the_operator_goes_to_who_that_is_now_and_holds_up_no_customers(
    notification_database: Sessions, mailbox: Mailbox, transport: Transport
) -> None:
    # given an order's mails, of which none can leave but the operator's
    order_id = record(notification_database, "received", "confirmed")
    with transaction(notification_database) as session:
        later = func.now() + timedelta(hours=1)
        session.execute(update(Notification).values(next_attempt_at=later))
    suspicion = {"customer_email": "ann@example.com", "client_ip": None, "score": 1, "reasons": []}
    operators = {"recipient": "operator", "context": CONTEXT | suspicion}
    record(notification_database, "suspected", order_id=order_id, sequence=None, **operators)

    # when
    deliver_all(delivery(notification_database, transport))

    # then
    assert statuses(notification_database) == ["PENDING", "PENDING", "SENT"]
    [message] = mailbox.messages
    assert str(message["To"]) == "operator@shop.example"

    # and the other way round
    with transaction(notification_database) as session:
        waiting = update(Notification).where(Notification.kind == "suspected")
        session.execute(waiting.values(status="PENDING", next_attempt_at=later))
        others = update(Notification).where(Notification.kind != "suspected")
        session.execute(others.values(next_attempt_at=func.now()))
    deliver_all(delivery(notification_database, transport))
    assert statuses(notification_database) == ["SENT", "SENT", "PENDING"]


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
