"""The SMTP dialogue with mail servers that reject, shut down or answer as they should."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from eventbus.database.db import Sessions
from eventbus.errors import Permanent
from notification_worker.mail.letter import Letter
from notification_worker.smtp.failures import Deferred, Refused, SenderRefused, Unreachable
from notification_worker.smtp.transport import Transport
from testkit.mail.mailing import deliver_all, delivery, record, rows, settings, statuses
from testkit.servers.workers import own_ports


class _Refusing:
    """Rejects one command of the dialogue."""

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
        (_RefusingRecipient("550 no such user"), Refused),
        (_RefusingRecipient("450 mailbox busy"), Deferred),
        (_RefusingRecipient("421 going down"), Unreachable),
        (_RefusingSender("552 too big"), Refused),
        (_RefusingSender("550 who are you"), SenderRefused),
        (_RefusingSender("451 try later"), SenderRefused),
        (_Refusing("554 spam"), Refused),
        (_Refusing("421 going down"), Unreachable),
    ],
)
def test_an_answer_of_the_mail_server_is_a_verdict(
    handler: _Refusing, verdict: type[Exception], pipelining: bool
) -> None:
    handler.pipelining = pipelining
    with listening(handler) as port, connected(port) as transport:
        with pytest.raises(verdict, match=handler._answer) as refusal:
            transport.send(a_letter())
        assert type(refusal.value) is verdict
        assert transport.is_ready() is (verdict is not Unreachable)


@with_and_without_pipelining
def test_a_non_ascii_address_without_smtputf8_is_a_permanent_failure(pipelining: bool) -> None:
    handler = _Refusing("250 ok")
    handler.pipelining = pipelining
    with listening(handler) as port, connected(port) as transport:
        with pytest.raises(Permanent, match="SMTPUTF8"):
            transport.send(a_letter("j\u00f6rg@example.com"))
        transport.send(a_letter())


class _Choosy(_Refusing):
    """Rejects one recipient, and keeps the emails of the others."""

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
def test_a_rejected_recipient_does_not_affect_other_mails(
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
def test_lines_that_start_with_a_dot_arrive_unchanged(pipelining: bool) -> None:
    handler = _Choosy(pipelining=pipelining)
    letter = a_letter(text=b".\r\n..two\r\n.end\r\n")
    with listening(handler) as port, connected(port) as transport:
        transport.send(letter)
    assert handler.kept == [(["ann@example.com"], letter.content)]


class _Scripted(socketserver.StreamRequestHandler):
    """A mail server that reads commands one by one or pipelined, and records them.

    It rejects the recipient `nobody` but still answers DATA with 354, as RFC 2920 allows;
    with the recipient `late` it disconnects.
    """

    server: "_ScriptedServer"

    def handle(self) -> None:
        with suppress(EOFError):
            self._serve()

    def _serve(self) -> None:
        self._say("220 ready")
        while command := self.connection.recv(4_096).decode().upper():
            if command.startswith("EHLO"):
                self._say("250-here", "250 PIPELINING" if self.server.pipelining else "250 HELP")
            else:
                self.server.commands.append(command)
                self._answer(command)

    def _answer(self, commands: str) -> None:
        if self.server.pipelining and commands.startswith("MAIL"):
            # Answer only when all three commands are here.
            while not commands.endswith("DATA\r\n"):
                commands += self._read().decode().upper()
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
            content += self._read()
        self.server.contents.append(content)
        self._say("554 no valid recipients" if to_nobody else "250 taken")

    def _read(self) -> bytes:
        # Not indefinitely, when the mailer has disconnected.
        if not (data := self.connection.recv(65_536)):
            raise EOFError
        return data

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class _ScriptedServer(socketserver.TCPServer):
    def __init__(self, *, pipelining: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Scripted)
        self.pipelining = pipelining
        self.commands: list[str] = []
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
            serving.join(timeout=60)


def test_a_server_with_pipelining_gets_all_commands_at_once() -> None:
    with scripted(pipelining=True) as (server, transport):
        transport.send(a_letter())
        transport.send(a_letter("bob@example.com"))
        assert len(server.contents) == 2


def test_a_server_without_pipelining_gets_one_command_at_a_time() -> None:
    with scripted(pipelining=False) as (server, transport):
        transport.send(a_letter())
        assert [line.count("\r\n") for line in server.commands] == [1, 1, 1]


@with_and_without_pipelining
def test_a_server_that_shuts_down_mid_dialogue_is_unreachable(pipelining: bool) -> None:
    with (
        scripted(pipelining=pipelining) as (_, transport),
        pytest.raises(Unreachable, match="421 going down"),
    ):
        transport.send(a_letter("late@example.com"))


def test_a_rejected_recipient_gets_empty_content_under_pipelining() -> None:
    with scripted(pipelining=True) as (server, transport):
        with pytest.raises(Permanent, match=r"550 \*\*\*"):
            transport.send(a_letter("nobody@example.com"))
        transport.send(a_letter())
        assert server.contents[0] == b".\r\n"
        assert server.contents[1].endswith(b"Hello\r\n.\r\n")


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
