"""The mailer encrypts as configured, trusts one authority, and reports the cause of a failure."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.certificates.certificate_authority import Authority
from notification_worker.mail.letter import Letter
from notification_worker.smtp.failures import Unreachable
from notification_worker.smtp.transport import Transport
from testkit.mail.mailing import settings
from testkit.mail.smtp_server import HANG, Answers, SmtpServer, serving

SECRET = "hunter2-secret"

LOGIN = {"smtp_username": "shop", "smtp_password": SECRET}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A new certificate authority."""
    authority = Authority(tmp_path / "tls")
    list(authority.init())
    return authority


def server_context(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """A server's TLS context, with a certificate for 127.0.0.1 from the authority."""
    return server_context(authority.server_file("rabbitmq"))


def offering_starttls(context: ssl.SSLContext, **more: Any) -> Answers:
    answers = {"EHLO": "250-here\r\n250-AUTH PLAIN\r\n250 STARTTLS", "STARTTLS": "220 go on"}
    return answers | {"TLS": context, "AUTH": "235 welcome"} | more


@pytest.fixture
def implicit(context: ssl.SSLContext) -> Iterator[SmtpServer]:
    """A server with TLS from the first byte."""
    answers = {"EHLO": "250-here\r\n250 AUTH PLAIN", "AUTH": "235 welcome"}
    with serving(answers, tls=context) as server:
        yield server


@pytest.fixture
def starttls(context: ssl.SSLContext) -> Iterator[SmtpServer]:
    """A server with TLS after STARTTLS."""
    with serving(offering_starttls(context)) as server:
        yield server


def send(server: SmtpServer, **values: Any) -> None:
    transport = Transport(settings(server.port, **values))
    transport.open()
    content = b"Message-ID: <1@shop.example>\r\n\r\nHello\r\n"
    transport.send(Letter("orders@shop.example", "ann@example.com", content))
    transport.close()


def cause(server: SmtpServer, **values: Any) -> str:
    """Return the error of a connection to this server."""
    with pytest.raises(Unreachable) as failure:
        Transport(settings(server.port, **values)).open()
    assert SECRET not in str(failure.value)
    return str(failure.value)


@pytest.mark.parametrize("kind", ["implicit", "starttls"])
@pytest.mark.parametrize("login", [{}, LOGIN], ids=["no login", "login"])
def test_a_mail_is_sent_over_tls_with_a_private_authority(
    request: pytest.FixtureRequest, authority: Authority, kind: str, login: dict[str, str]
) -> None:
    server = request.getfixturevalue(kind)
    send(server, smtp_tls=kind, smtp_ca_file=authority.certificate_file, **login)
    assert len(server.contents) == 1
    assert any(c.startswith("AUTH") for c in server.commands) is bool(login)


def test_the_older_starttls_setting_still_works(starttls: SmtpServer, authority: Authority) -> None:
    send(starttls, smtp_starttls=True, smtp_ca_file=authority.certificate_file)
    assert "STARTTLS" in starttls.commands


@pytest.mark.parametrize("kind", ["implicit", "starttls"])
def test_a_certificate_of_another_authority_is_rejected(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    list(other.init())
    server = request.getfixturevalue(kind)
    for values in ({}, {"smtp_ca_file": other.certificate_file}):
        error = cause(server, smtp_tls=kind, **values)
        assert "certificate verify failed" in error
        assert "SMTP_CA_FILE" in error


def test_a_certificate_for_another_name_is_rejected(tmp_path: Path) -> None:
    elsewhere = Authority(tmp_path / "elsewhere")
    elsewhere._names = ("elsewhere.example",)
    list(elsewhere.init())
    with serving(tls=server_context(elsewhere.server_file("rabbitmq"))) as server:
        error = cause(server, smtp_tls="implicit", smtp_ca_file=elsewhere.certificate_file)
    assert "127.0.0.1" in error


@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_the_error_names_a_port_that_needs_implicit_tls(implicit: SmtpServer, tls: str) -> None:
    error = cause(implicit, smtp_tls=tls, smtp_connect_timeout=1.0)
    assert "speaks TLS from the first byte: it needs SMTP_TLS=implicit" in error


def test_a_silent_port_is_not_reported_as_implicit_tls() -> None:
    with serving({"GREETING": HANG}) as server:
        error = cause(server, smtp_connect_timeout=0.5)
        server.stopped.set()
    assert error.endswith("greeting: TimeoutError: no answer within 0.5 s")


def test_the_error_names_a_port_without_implicit_tls(authority: Authority) -> None:
    with serving() as server:
        error = cause(server, smtp_tls="implicit", smtp_ca_file=authority.certificate_file)
    assert "does not speak TLS from the first byte: see SMTP_TLS" in error


def failed_login(
    context: ssl.SSLContext, authority: Authority, answers: Answers
) -> tuple[str, list[str]]:
    """Return the error of a login after STARTTLS, and the commands that the server received."""
    with serving(offering_starttls(context) | dict(answers)) as server:
        error = cause(
            server,
            smtp_tls="starttls",
            smtp_ca_file=authority.certificate_file,
            smtp_connect_timeout=1.0 if HANG in answers.values() else 30.0,
            **LOGIN,
        )
        server.stopped.set()
        return error, server.commands


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"EHLO": "250 here"}, "does not offer STARTTLS"),
        ({"STARTTLS": "454 not now"}, "454"),
        ({"STARTTLS": "220 go on\r\n250 injected"}, "continued in plaintext"),
        ({"STARTTLS": HANG}, "STARTTLS: TimeoutError: no answer within 1 s"),
    ],
)
def test_a_failed_starttls_sends_nothing_in_cleartext(
    context: ssl.SSLContext, authority: Authority, answers: Answers, expected: str
) -> None:
    error, commands = failed_login(context, authority, answers)

    assert expected in error
    assert not any(command.startswith(("AUTH", "MAIL")) for command in commands)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"AUTH": "535 5.7.8 wrong"}, "535"),
        ({"AUTH": "454 later"}, "454"),
        ({"EHLO": "250-here\r\n250 STARTTLS"}, "AUTH"),
        ({"AUTH": HANG}, "login: TimeoutError"),
    ],
)
def test_a_failed_login_is_an_outage_of_the_mail_server(
    context: ssl.SSLContext, authority: Authority, answers: Answers, expected: str
) -> None:
    error, _ = failed_login(context, authority, answers)

    assert expected in error


def test_a_tls_handshake_times_out() -> None:
    with serving({"GREETING": HANG}) as server:
        began = time.monotonic()
        error = cause(server, smtp_tls="implicit", smtp_connect_timeout=0.5)
        server.stopped.set()
    assert "connection: " in error
    assert time.monotonic() - began < 25
