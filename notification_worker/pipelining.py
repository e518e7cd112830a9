"""SMTP's command pipelining (RFC 2920): a mail's three commands in one write, then its content.

Two round trips instead of four. Answers and errors are those of `smtplib.SMTP.sendmail`, which
sends the mail where the server does not offer this.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from smtplib import (
    SMTP,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPSenderRefused,
    SMTPServerDisconnected,
)

from notification_worker.letter import Letter

_TAKEN = 250
_WILL_FORWARD = 251
_GO_ON = 354
_SERVICE_NOT_AVAILABLE = 421


def offered(smtp: SMTP) -> bool:
    """Return whether the server takes a command before it has answered the one before."""
    return smtp.has_extn("pipelining")


def send(smtp: SMTP, letter: Letter, options: Sequence[str]) -> None:
    """Send one letter, and wait for four answers of the server at most."""
    if smtp.has_extn("size"):
        options = [*options, f"size={len(letter.content)}"]
    sender = " ".join([f"MAIL FROM:<{letter.sender}>", *options])
    smtp.send(f"{sender}\r\nRCPT TO:<{letter.recipient}>\r\nDATA\r\n".encode())
    answers = list(_answers(smtp))
    if refusal := _refusal(letter, answers):
        _take_back(smtp, last=answers[-1][0])
        raise refusal
    # A line that is one dot ends the content: all that begin with one get another.
    smtp.send(letter.content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    code, text = smtp.getreply()
    if code != _TAKEN:
        raise SMTPDataError(code, text)


def _answers(smtp: SMTP) -> Iterator[tuple[int, bytes]]:
    for _ in ("MAIL", "RCPT", "DATA"):
        yield (answer := smtp.getreply())
        if answer[0] == _SERVICE_NOT_AVAILABLE:
            return  # and hangs up


def _refusal(letter: Letter, answers: Sequence[tuple[int, bytes]]) -> SMTPException | None:
    # The first one: the rest only follows from it.
    for command, (code, text) in zip(("MAIL", "RCPT", "DATA"), answers, strict=False):
        if command == "MAIL" and code != _TAKEN:
            return SMTPSenderRefused(code, text, letter.sender)
        if command == "RCPT" and code not in (_TAKEN, _WILL_FORWARD):
            return SMTPRecipientsRefused({letter.recipient: (code, text)})
        if command == "DATA" and code != _GO_ON:
            return SMTPDataError(code, text)
    return None


def _take_back(smtp: SMTP, *, last: int) -> None:
    """Leave nothing of a refused mail behind for the next one."""
    with suppress(SMTPServerDisconnected):
        if last == _GO_ON:
            # The server waits for the content of a mail that goes to nobody.
            smtp.send(b".\r\n")
            smtp.getreply()
        elif last != _SERVICE_NOT_AVAILABLE:
            smtp.rset()
