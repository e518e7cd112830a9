"""Each step of the dialogue with a mail server has a time limit and its own kind of failure."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from eventbus.errors import Permanent, Transient
from notification_worker.mail.letter import Letter
from notification_worker.smtp.failures import (
    Deferred,
    Interrupted,
    Refused,
    SenderRefused,
    Unreachable,
    Unsure,
)
from notification_worker.smtp.transport import Transport
from testkit.mail.mailing import settings
from testkit.mail.smtp_server import DROP, HANG, Answers, Endless, SmtpServer, serving

#: Seconds: the limit of the step under test, and the time within which the test must end. All
#: other limits are longer than `WITHIN`.
SHORT, WITHIN = 0.3, 25.0

PIPELINING = {"EHLO": "250-here\r\n250-SMTPUTF8\r\n250 PIPELINING"}

with_and_without_pipelining = pytest.mark.parametrize(
    "offers", [{}, PIPELINING], ids=["plain", "pipelining"]
)


@contextmanager
def connected(answers: Answers, **limits: float) -> Iterator[tuple[SmtpServer, Transport]]:
    with serving(answers) as server:
        transport = Transport(settings(server.port, **limits))
        transport.open()
        yield server, transport
        server.stopped.set()
        transport.close()


def a_letter() -> Letter:
    content = b"Message-ID: <1@shop.example>\r\n\r\nHello\r\n"
    return Letter("orders@shop.example", "ann@example.com", content)


def failure_of(transport: Transport) -> tuple[Exception, float]:
    """Send a letter that fails; return the failure and the seconds that it took."""
    began = time.monotonic()
    with pytest.raises((Transient, Permanent)) as failure:
        transport.send(a_letter())
    return failure.value, time.monotonic() - began


NO_VERDICT = [
    ("mail", "MAIL", Interrupted),
    ("rcpt", "RCPT", Interrupted),
    ("data", "DATA", Interrupted),
    ("accept", "CONTENT", Unsure),
]


@with_and_without_pipelining
@pytest.mark.parametrize(("limit", "step", "kind"), NO_VERDICT)
@pytest.mark.parametrize(
    "answer",
    [HANG, Endless(b"2", 0.01), Endless(b"250-more\r\n", 0.01)],
    ids=["silence", "a byte now and then", "lines without end"],
)
def test_an_unanswered_step_ends_at_its_own_limit(
    offers: dict[str, str], limit: str, step: str, kind: type[Exception], answer: Any
) -> None:
    with connected(offers | {step: answer}, **{f"smtp_{limit}_timeout": SHORT}) as (_, transport):
        failure, seconds = failure_of(transport)
        assert type(failure) is kind
        assert f"no answer within {SHORT:g} s" in str(failure)
        assert SHORT <= seconds < WITHIN
        assert not transport.is_ready()


@with_and_without_pipelining
@pytest.mark.parametrize(("limit", "step", "kind"), NO_VERDICT)
@pytest.mark.parametrize(
    "answer",
    [
        DROP,
        "nonsense",
        "99 too low",
        "999 too high",
        "\xff\xfe",
        Endless(b"x" * 999),
        Endless(b"250-more\r\n"),
    ],
    ids=["hangs up", "text", "low", "high", "bytes", "a line without end", "a flood of lines"],
)
def test_an_invalid_answer_is_not_a_verdict(
    offers: dict[str, str], limit: str, step: str, kind: type[Exception], answer: Any
) -> None:
    del limit  # the default is generous
    with connected(offers | {step: answer}) as (_, transport):
        failure, _seconds = failure_of(transport)
        assert type(failure) is kind
        assert len(str(failure)) < 500
        assert not transport.is_ready()


@with_and_without_pipelining
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "CONTENT"])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("421 going down", Unreachable),
        ("451-try\r\n451 later", Deferred),
        ("554-never\r\n554 ever", Refused),
    ],
)
def test_a_multiline_rejection_is_a_verdict_at_each_step(
    offers: dict[str, str], step: str, answer: str, kind: type[Exception]
) -> None:
    with connected(offers | {step: answer}) as (server, transport):
        failure, _ = failure_of(transport)
        if step == "MAIL" and kind is not Unreachable:
            assert isinstance(failure, SenderRefused)
            assert failure.permanent is (kind is Refused)
        else:
            assert type(failure) is kind
        assert answer.split("\r\n")[-1][4:] in str(failure)
        if kind is not Unreachable:
            server.answers[step] = "354 go on" if step == "DATA" else "250 ok"
            transport.send(a_letter())


@with_and_without_pipelining
@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
def test_an_unexpected_answer_to_a_command_ends_the_dialogue(
    offers: dict[str, str], step: str
) -> None:
    # After an unexpected reply, the next replies may be those of other commands
    with connected(offers | {step: "354 go on"}) as (_, transport):
        failure, _ = failure_of(transport)
        assert type(failure) is Interrupted
        assert not transport.is_ready()


@with_and_without_pipelining
def test_an_unexpected_answer_to_the_content_is_not_a_verdict(offers: dict[str, str]) -> None:
    with connected(offers | {"CONTENT": "354 go on"}) as (_, transport):
        failure, _ = failure_of(transport)
        assert type(failure) is Unsure


def test_a_content_that_the_server_does_not_read_is_interrupted() -> None:
    with connected({"READING": HANG}, smtp_block_timeout=SHORT) as (_, transport):
        much = Letter("orders@shop.example", "ann@example.com", b"x\r\n" * 20_000_000)
        began = time.monotonic()
        with pytest.raises(Interrupted, match="content"):
            transport.send(much)
        assert time.monotonic() - began < WITHIN


@pytest.mark.parametrize("step", ["GREETING", "EHLO"])
@pytest.mark.parametrize(
    "answer",
    [HANG, DROP, "421 busy", "554 no", "nonsense", Endless(b"220-more\r\n", 0.01)],
    ids=["silence", "hangs up", "421", "554", "text", "lines without end"],
)
def test_a_server_without_a_valid_greeting_is_unreachable(step: str, answer: Any) -> None:
    answers = {step: answer} | ({"HELO": answer} if step == "EHLO" else {})
    with serving(answers) as server:
        transport = Transport(settings(server.port, smtp_connect_timeout=SHORT))
        began = time.monotonic()
        with pytest.raises(Unreachable, match=step.lower() if step == "GREETING" else step):
            transport.open()
        assert time.monotonic() - began < WITHIN
        assert not transport.is_ready()
        server.stopped.set()


def test_a_server_without_ehlo_gets_helo() -> None:
    with connected({"EHLO": "500 what", "HELO": "250 here"}) as (server, transport):
        transport.send(a_letter())
        assert len(server.contents) == 1
