"""The local mail server accepts every email, and its page shows the newest ones."""

import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage

import httpx
import pytest

from deploy.local.mail_server.mailbox import LIMIT, Mailbox
from deploy.local.mail_server.page import create_app
from testkit.eventually import eventually
from testkit.servers.workers import own_ports

LETTER = "Hello <b>Ada</b>"


def letter(subject: str = "Your order") -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@x.test", "ada@x.test", subject
    message.set_content("Hello Ada")
    message.add_alternative(LETTER, subtype="html")
    return message


@pytest.fixture
def server() -> Iterator[tuple[int, str]]:
    """A running mail server: its SMTP port, and the address of its page."""
    ports = own_ports()
    url = f"http://127.0.0.1:{ports.mail_ui_port}"
    options = ["--smtp", str(ports.smtp_port), "--web", str(ports.mail_ui_port)]
    program = [sys.executable, "-m", "deploy.local.mail_server", *options]
    with subprocess.Popen(program) as process:
        try:
            eventually(lambda: _assert_answers(url))
            yield ports.smtp_port, url
        finally:
            process.terminate()


def _assert_answers(url: str) -> None:
    try:
        assert httpx.get(f"{url}/healthz").text == "ok"
    except httpx.TransportError as error:
        raise AssertionError from error


def test_mail_is_accepted_and_shown(server: tuple[int, str]) -> None:
    port, url = server

    # When two emails come over one connection
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        smtp.ehlo()
        assert smtp.has_extn("pipelining")
        smtp.send_message(letter("Älteste <Bestellung>"))
        smtp.send_message(letter("Second"))

    # Then the page lists them, the newest first, and shows each
    page = httpx.get(url).text
    assert page.index("Second") < page.index("Älteste &lt;Bestellung&gt;")
    assert "ada@x.test" in page
    page_of_mail = httpx.get(f"{url}/mails/1").text
    assert "Hello Ada" in page_of_mail
    assert LETTER not in page_of_mail
    assert "Subject: Second" in httpx.get(f"{url}/mails/2/source").text
    assert httpx.get(f"{url}/mails/3").status_code == httpx.codes.NOT_FOUND


def test_commands_can_be_pipelined(server: tuple[int, str]) -> None:
    port, url = server

    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        smtp.ehlo()
        smtp.send("MAIL FROM:<shop@x.test>\r\nRCPT TO:<ada@x.test>\r\nDATA\r\n")
        assert [smtp.getreply()[0] for _ in range(3)] == [250, 250, 354]
        smtp.send("Subject: together\r\n\r\nText\r\n.\r\n")
        assert smtp.getreply()[0] == 250

    assert "together" in httpx.get(url).text


def test_content_is_stored_unchanged(server: tuple[int, str]) -> None:
    port, url = server
    lines = ["", ".", "..", ".dot", "end"]

    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        smtp.sendmail("shop@x.test", ["ada@x.test", "bob@x.test"], "\r\n".join(lines))
        smtp.sendmail("shop@x.test", ["ada@x.test"], "")

    assert httpx.get(f"{url}/mails/1/source").text.split("\r\n") == [*lines, ""]
    assert "ada@x.test, bob@x.test" in httpx.get(f"{url}/mails/1").text
    assert httpx.get(f"{url}/mails/2").status_code == httpx.codes.OK


def test_invalid_commands_are_rejected(server: tuple[int, str]) -> None:
    with smtplib.SMTP("127.0.0.1", server[0], timeout=60) as smtp:
        assert smtp.docmd("RCPT", "TO:<ada@x.test>")[0] == 503
        smtp.mail("shop@x.test")
        assert smtp.docmd("DATA")[0] == 503
        assert smtp.docmd("WHAT")[0] == 500
        assert smtp.rset()[0] == smtp.noop()[0] == 250
        assert smtp.docmd("X" * 1_000_000)[0] == 552


def test_html_of_a_mail_cannot_run_scripts() -> None:
    mailbox = Mailbox()
    mailbox.add("shop@x.test", ("ada@x.test",), letter().as_bytes())

    answer = create_app(mailbox).test_client().get("/mails/1/html")

    assert LETTER in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


def test_a_mail_without_text_or_subject_is_shown() -> None:
    mailbox = Mailbox()
    mailbox.add("", ("ada@x.test",), b"\xff\xfe no mail at all")

    client = create_app(mailbox).test_client()

    assert client.get("/").status_code == client.get("/mails/1").status_code == 200


def test_the_oldest_mails_are_dropped_beyond_the_limit() -> None:
    mailbox = Mailbox()
    for number in range(LIMIT + 1):
        mailbox.add("", (), f"Subject: {number}\r\n\r\n".encode())

    assert mailbox.get(1) is None
    assert [mail.subject for mail in mailbox.newest(2)] == [str(LIMIT), str(LIMIT - 1)]
    assert mailbox.count == LIMIT + 1


def test_a_port_that_is_in_use_is_named() -> None:
    ports = own_ports()
    options = ["--smtp", str(ports.smtp_port), "--web", str(ports.smtp_port)]

    program = [sys.executable, "-m", "deploy.local.mail_server", *options]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1" in done.stderr
