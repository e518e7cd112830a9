"""The connection to the mail server: mails out, verdicts back."""

import smtplib
import ssl
import time
from contextlib import suppress

from common.errors import Permanent, Transient
from notification_worker import pipelining
from notification_worker.letter import Letter
from notification_worker.settings import MailerSettings

#: Seconds. A connection that was idle for longer is replaced: mail servers hang up on idle clients
#: after minutes, and a mail that finds that out has failed once for nothing.
IDLE_LIMIT = 5.0

_SERVICE_NOT_AVAILABLE = 421
_MAIL_TOO_BIG = 552


class Unreachable(Transient):
    """The mail server takes no mail at all at the moment, whichever it is."""


class Transport:
    """One connection to the mail server; every wait in it has a limit."""

    def __init__(self, settings: MailerSettings) -> None:
        self._settings = settings
        self._smtp: smtplib.SMTP | None = None
        self._used_at = 0.0

    def is_ready(self) -> bool:
        """Return whether there is a connection that the server very likely still holds, too."""
        return self._smtp is not None and time.monotonic() - self._used_at < IDLE_LIMIT

    def open(self) -> None:
        """Connect anew. Raises `Unreachable`, saying why."""
        self.close()
        host, port = self._settings.smtp_host, self._settings.smtp_port
        try:
            self._smtp = smtplib.SMTP(host, port, timeout=self._settings.smtp_timeout)
            self._log_in(self._smtp)
            # What the server offers may change with the encryption.
            self._smtp.ehlo_or_helo_if_needed()
        except (smtplib.SMTPException, OSError) as error:
            self._drop()
            raise Unreachable(f"{host}:{port}: {_described(error)}") from error
        self._used_at = time.monotonic()

    def send(self, letter: Letter) -> None:
        """Hand the mail over: the server has taken responsibility for it when this returns.

        Raises `Permanent` if the server refuses this mail for good, `Transient` if for now, and
        `Unreachable` if the connection is of no use any more; the mail may have left, then.
        """
        if self._smtp is None:
            raise Unreachable("not connected")
        try:
            _send(self._smtp, letter)
        except Unreachable:
            self._drop()
            raise
        finally:
            self._used_at = time.monotonic()

    def close(self) -> None:
        """Take leave of the server, if there is a connection."""
        if self._smtp is not None:
            with suppress(smtplib.SMTPException, OSError):
                self._smtp.quit()
            self._drop()

    def _log_in(self, smtp: smtplib.SMTP) -> None:
        settings = self._settings
        if settings.smtp_starttls:
            smtp.starttls(context=ssl.create_default_context())
        if settings.smtp_username and settings.smtp_password:
            smtp.login(settings.smtp_username, settings.smtp_password.get_secret_value())

    def _drop(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None


def _send(smtp: smtplib.SMTP, letter: Letter) -> None:
    try:
        options = _options(smtp, letter)
        if pipelining.offered(smtp):
            pipelining.send(smtp, letter, options)
        else:
            smtp.sendmail(letter.sender, [letter.recipient], letter.content, options)
    except smtplib.SMTPRecipientsRefused as refusal:
        raise _verdict(*refusal.recipients[letter.recipient]) from refusal
    except smtplib.SMTPSenderRefused as refusal:
        verdict = _verdict(refusal.smtp_code, refusal.smtp_error)
        # Who may not send at all, may not send the next mail either.
        if isinstance(verdict, Permanent) and refusal.smtp_code != _MAIL_TOO_BIG:
            raise Unreachable(str(verdict)) from refusal
        raise verdict from refusal
    except smtplib.SMTPDataError as refusal:
        raise _verdict(refusal.smtp_code, refusal.smtp_error) from refusal
    except smtplib.SMTPNotSupportedError as error:
        raise Permanent(str(error)) from error  # an address that this server cannot write
    except (smtplib.SMTPException, OSError) as error:
        raise Unreachable(_described(error)) from error


def _options(smtp: smtplib.SMTP, letter: Letter) -> list[str]:
    if (letter.sender + letter.recipient).isascii():
        return []
    if not smtp.has_extn("smtputf8"):
        raise smtplib.SMTPNotSupportedError("an address needs SMTPUTF8, which the server lacks")
    return ["SMTPUTF8", "BODY=8BITMIME"]


def _verdict(code: int, answer: bytes | str) -> Transient | Permanent:
    text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer
    said = f"{code} {text}"
    if code == _SERVICE_NOT_AVAILABLE:
        return Unreachable(said)
    return Permanent(said) if code >= 500 else Transient(said)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
