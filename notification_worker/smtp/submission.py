"""Submission of an email: its commands and content, and the server's replies, within time limits.

A server that supports command pipelining (RFC 2920) receives the three commands in one write, which
takes two round trips instead of four.
"""

import smtplib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eventbus.errors import Permanent, Transient
from eventbus.telemetry.privacy import described, masked, reply
from notification_worker.mail.letter import Letter
from notification_worker.smtp.dialogue import Dialogue
from notification_worker.smtp.failures import (
    Deferred,
    Interrupted,
    Refused,
    SenderRefused,
    Unreachable,
    Unsure,
)

#: Seconds for the reply to the command that cancels a rejected email. The rejection is already
#: known, so a slow reply costs only a new connection.
CANCEL_LIMIT = 10.0

_START_INPUT = 354
_SERVICE_NOT_AVAILABLE = 421
_TOO_BIG = 552

_MAIL, _RCPT, _DATA = _STEPS = ("MAIL", "RCPT", "DATA")

Answer = tuple[int, bytes]


class Limits(NamedTuple):
    """Seconds for each step, as in RFC 5321, 4.5.3.2."""

    mail: float
    rcpt: float
    data: float
    block: float
    accept: float


def submit(smtp: Dialogue, letter: Letter, limits: Limits) -> None:
    """Transmit one letter. When this returns, the server has accepted responsibility for it.

    Raises `Refused` or `Deferred` if the server rejects this email, `SenderRefused` if it rejects
    the sender, `Unreachable` if it closes the dialogue, `Interrupted` if the dialogue ends before
    the content is sent, and `Unsure` if it ends after that. Addresses in their messages are masked.
    Raises `Permanent` if the email requires an extension that the server does not offer.
    """
    commands = _commands(smtp, letter)
    answers = list(_answers(smtp, letter, commands, limits))
    if refusal := _refusal(answers, letter):
        _cancel(smtp, last=answers[-1][0])
        raise refusal
    _transmit(smtp, letter, limits)


def _commands(smtp: Dialogue, letter: Letter) -> tuple[str, str, str]:
    options = _options(smtp, letter)
    if smtp.has_extn("size"):
        options.append(f"size={len(letter.content)}")
    sender = " ".join([f"MAIL FROM:<{letter.sender}>", *options])
    return sender, f"RCPT TO:<{letter.recipient}>", "DATA"


def _options(smtp: Dialogue, letter: Letter) -> list[str]:
    if letter.is_plain:
        return []
    if not smtp.has_extn("smtputf8"):
        raise Permanent("an address requires SMTPUTF8, which the server does not support")
    return ["SMTPUTF8", "BODY=8BITMIME"]


def _answers(
    smtp: Dialogue, letter: Letter, commands: Sequence[str], limits: Limits
) -> Iterator[Answer]:
    pipelined = smtp.has_extn("pipelining")
    lines = [f"{command}\r\n".encode() for command in commands]
    for step, line, limit in zip(_STEPS, lines, limits, strict=False):
        smtp.limit = limit
        try:
            if not pipelined:
                smtp.send(line)
            elif step == _MAIL:
                smtp.send(b"".join(lines))
            answer = smtp.getreply()
        except (smtplib.SMTPException, OSError) as error:
            raise Interrupted(_after(step, error, letter)) from error
        yield answer
        # After 421 the server closes the connection. Without pipelining, no other command was sent.
        if answer[0] == _SERVICE_NOT_AVAILABLE or not (pipelined or _is_good(step, answer[0])):
            return


def _is_good(step: str, code: int) -> bool:
    return code == _START_INPUT if step == _DATA else code // 100 == 2


def _refusal(answers: Sequence[Answer], letter: Letter) -> Transient | Permanent | None:
    # Only the first rejection counts, because the later rejections result from it.
    for step, (code, text) in zip(_STEPS, answers, strict=False):
        if not _is_good(step, code):
            verdict = _verdict(code, text, letter)
            return _of_sender(verdict, code) if step == _MAIL else verdict
    return None


def _of_sender(verdict: Transient | Permanent, code: int) -> Transient | Permanent:
    # Only the size depends on the email alone. A rejection of the option SMTPUTF8 may also be a
    # rejection of the sender.
    if isinstance(verdict, Unreachable | Interrupted) or code == _TOO_BIG:
        return verdict
    return SenderRefused(str(verdict), permanent=isinstance(verdict, Permanent))


def _verdict(code: int, text: bytes, letter: Letter) -> Transient | Permanent:
    response = reply(code, text, letter.recipient)
    if code == _SERVICE_NOT_AVAILABLE:
        return Unreachable(response)
    # The reply is an unexpected 2xx or 3xx, so the dialogue is out of step.
    if code < 400:
        return Interrupted(f"unexpected reply: {response}")
    return Refused(response) if code >= 500 else Deferred(response)


def _cancel(smtp: Dialogue, *, last: int) -> None:
    """Cancel a rejected email, so the next email can follow; if this fails, close the dialogue."""
    smtp.limit = CANCEL_LIMIT
    try:
        if last == _START_INPUT:
            # The server has accepted DATA, and waits for the content of an email without
            # recipients.
            smtp.send(b".\r\n")
            smtp.getreply()
        elif last != _SERVICE_NOT_AVAILABLE and not _is_good("RSET", smtp.rset()[0]):
            smtp.close()
    except (smtplib.SMTPException, OSError):
        smtp.close()


def _transmit(smtp: Dialogue, letter: Letter, limits: Limits) -> None:
    smtp.limit = limits.block
    try:
        # A line of a single dot ends the content, so a dot is added to lines that start with one.
        smtp.send(letter.content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    except (smtplib.SMTPException, OSError) as error:
        # The final dot was not sent.
        raise Interrupted(_after("content", error, letter)) from error
    smtp.limit = limits.accept
    try:
        code, text = smtp.getreply()
    except (smtplib.SMTPException, OSError) as error:
        raise Unsure(_after("after the content", error, letter)) from error
    if code // 100 == 3:
        smtp.close()
        raise Unsure(f"after the content: unexpected reply {code}")
    if code // 100 != 2:
        raise _verdict(code, text, letter)


def _after(step: str, error: Exception, letter: Letter) -> str:
    return f"{step}: {masked(described(error), letter.recipient)}"
