"""The connection to the mail server, which transmits emails and returns verdicts."""

import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from eventbus.telemetry.privacy import described
from notification_worker.mail.letter import Letter
from notification_worker.settings import MailerSettings, Tls
from notification_worker.smtp.dialogue import Dialogue
from notification_worker.smtp.failures import Interrupted, Unreachable, Unsure
from notification_worker.smtp.submission import submit

#: Seconds after which an idle connection is replaced. Mail servers close idle connections after
#: minutes, which would cost an email an attempt.
IDLE_LIMIT = 5.0

#: Seconds for QUIT, and for the diagnosis of a silent server.
_SHORT = 5.0


class Transport:
    """One connection to the mail server, in which every wait has a limit."""

    def __init__(self, settings: MailerSettings) -> None:
        self._settings = settings
        self._smtp: Dialogue | None = None
        self._used_at = 0.0

    def is_ready(self) -> bool:
        """Return whether the connection is open, and the server has probably not closed it."""
        return self._smtp is not None and time.monotonic() - self._used_at < IDLE_LIMIT

    def open(self) -> None:
        """Open a new connection. Raises `Unreachable` with the failed step and its cause."""
        self.close()
        smtp = Dialogue(self._settings.smtp_connect_timeout)
        try:
            self._greet(smtp)
            self._log_in(smtp)
        except Unreachable:
            smtp.close()
            raise
        self._smtp, self._used_at = smtp, time.monotonic()

    def send(self, letter: Letter) -> None:
        """Transmit the email. When this returns, the server has accepted responsibility for it.

        Raises the errors of `submission.submit`; after `Unsure`, the email may have been sent.
        """
        if self._smtp is None:
            raise Unreachable("not connected")
        try:
            submit(self._smtp, letter, self._settings.smtp_limits)
        except (Unreachable, Interrupted, Unsure):
            self._drop()
            raise
        finally:
            self._used_at = time.monotonic()
            if self._smtp and self._smtp.sock is None:
                self._drop()

    def close(self) -> None:
        """Close the connection with QUIT, if there is one."""
        if self._smtp is not None:
            self._smtp.limit = _SHORT
            with suppress(smtplib.SMTPException, OSError):
                self._smtp.quit()
            self._drop()

    def _greet(self, smtp: Dialogue) -> None:
        settings = self._settings
        host, port = settings.smtp_host, settings.smtp_port
        tls = settings.smtp_context if settings.tls is Tls.IMPLICIT else None
        with self._step("connection"):
            smtp.begin(host, port, tls)
        try:
            smtp.greeting()
        except (smtplib.SMTPException, OSError) as error:
            if tls is None and not isinstance(error, smtplib.SMTPConnectError):
                self._check_for_tls(error)
            raise self._unreachable("greeting", error) from error

    def _log_in(self, smtp: Dialogue) -> None:
        settings = self._settings
        if settings.tls is Tls.STARTTLS:
            with self._step("STARTTLS"):
                smtp.encrypt(settings.smtp_context, settings.smtp_host)
        with self._step("EHLO"):
            # The extensions of the server may change with the encryption.
            smtp.introduce()
        if settings.smtp_username and settings.smtp_password:
            with self._step("login"):
                smtp.login(settings.smtp_username, settings.smtp_password.get_secret_value())

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        try:
            yield
        except (smtplib.SMTPException, OSError) as error:
            raise self._unreachable(name, error) from error

    def _unreachable(self, step: str, error: Exception) -> Unreachable:
        cause = described(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            cause += "; SMTP_CA_FILE must name the certificate of the CA that issued it"
        elif isinstance(error, ssl.SSLError) and self._settings.tls is Tls.IMPLICIT:
            cause += "; the port does not speak TLS from the first byte: see SMTP_TLS"
        return self._named(step, cause)

    def _named(self, step: str, cause: str) -> Unreachable:
        return Unreachable(
            f"{self._settings.smtp_host}:{self._settings.smtp_port}: {step}: {cause}"
        )

    def _check_for_tls(self, error: Exception) -> None:
        # A server of this kind waits silently for the TLS handshake, so it appears to hang.
        if _speaks_tls(self._settings.smtp_host, self._settings.smtp_port):
            reason = "the port speaks TLS from the first byte: it needs SMTP_TLS=implicit"
            raise self._named("greeting", reason) from error

    def _drop(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
            self._smtp = None


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    # No data is sent over this connection.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with closing(socket.create_connection((host, port), _SHORT)) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except OSError:
        return False
    return True
