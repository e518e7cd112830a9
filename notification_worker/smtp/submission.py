"""A submission: one mail's commands, its content, and the server's answers, each with its limit.

A server that offers command pipelining (RFC 2920) gets the three commands in one write: two round
trips instead of four.
"""

import smtplib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from eventbus.errors import Permanent, Transient
from eventbus.telemetry.privacy import described, masked, reply
from notification_worker.mail.letter import Letter
from notification_worker.smtp.dialogue import Dialogue
from notification_worker.smtp.failures import Interrupted, SenderRefused, Unreachable, Unsure

#: Seconds for the answer to the command that takes a refused mail back. The refusal is known: a
#: server that is slow here costs a new connection, and nothing else.
TAKE_BACK_LIMIT = 10.0

_GO_ON = 354
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
    """Hand one letter over: the server has taken responsibility for it when this returns.

    Raises `Permanent` or `Transient` if the server refuses this mail, `SenderRefused` if it refuses
    the sender, `Unreachable` if it takes leave, `Interrupted` if the dialogue ends before the
    content is sent, and `Unsure` if it ends after that.
    """
    commands = _commands(smtp, letter)
    answers = list(_answers(smtp, letter, commands, limits))
    if refusal := _refusal(answers, letter):
        _take_back(smtp, last=answers[-1][0])
        raise refusal
    _hand_over(smtp, letter, limits)


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
        raise Permanent("an address needs SMTPUTF8, which the server lacks")
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
        # A server that takes leave hangs up. Without pipelining, nothing more was asked.
        if answer[0] == _SERVICE_NOT_AVAILABLE or not (pipelined or _is_good(step, answer[0])):
            return


def _is_good(step: str, code: int) -> bool:
    return code == _GO_ON if step == _DATA else code // 100 == 2


def _refusal(answers: Sequence[Answer], letter: Letter) -> Transient | Permanent | None:
    # The first one: the rest only follows from it.
    for step, (code, text) in zip(_STEPS, answers, strict=False):
        if not _is_good(step, code):
            verdict = _verdict(code, text, letter)
            return _of_sender(verdict, code, letter) if step == _MAIL else verdict
    return None


def _of_sender(verdict: Transient | Permanent, code: int, letter: Letter) -> Transient | Permanent:
    # Of a mail's own are its size and, unless it is plain, the options of the command.
    if isinstance(verdict, Unreachable) or code == _TOO_BIG or not letter.is_plain:
        return verdict
    return SenderRefused(str(verdict), permanent=isinstance(verdict, Permanent))


def _verdict(code: int, text: bytes, letter: Letter) -> Transient | Permanent:
    said = reply(code, text, letter.recipient)
    if code == _SERVICE_NOT_AVAILABLE:
        return Unreachable(said)
    # 2xx or 3xx where neither belongs: the dialogue is out of step.
    if code < 400:
        return Interrupted(f"answered out of turn: {said}")
    return Permanent(said) if code >= 500 else Transient(said)


def _take_back(smtp: Dialogue, *, last: int) -> None:
    """Leave nothing of a refused mail behind for the next one; else the dialogue is over."""
    smtp.limit = TAKE_BACK_LIMIT
    try:
        if last == _GO_ON:
            # The server waits for the content of a mail that goes to nobody.
            smtp.send(b".\r\n")
            smtp.getreply()
        elif last != _SERVICE_NOT_AVAILABLE and not _is_good("RSET", smtp.rset()[0]):
            smtp.close()
    except (smtplib.SMTPException, OSError):
        smtp.close()


def _hand_over(smtp: Dialogue, letter: Letter, limits: Limits) -> None:
    smtp.limit = limits.block
    try:
        # A line that is one dot ends the content: all that begin with one get another.
        smtp.send(letter.content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    except (smtplib.SMTPException, OSError) as error:
        # The last dot was not sent.
        raise Interrupted(_after("content", error, letter)) from error
    smtp.limit = limits.accept
    try:
        code, text = smtp.getreply()
    except (smtplib.SMTPException, OSError) as error:
        raise Unsure(_after("after the content", error, letter)) from error
    if code // 100 == 3:
        smtp.close()
        raise Unsure(f"after the content: answered {code}")
    if code // 100 != 2:
        raise _verdict(code, text, letter)


def _after(step: str, error: Exception, letter: Letter) -> str:
    return f"{step}: {masked(described(error), letter.recipient)}"
