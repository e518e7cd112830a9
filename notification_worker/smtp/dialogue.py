"""A dialogue with a mail server in which every reply has a deadline and a maximum size.

`smtplib` limits only each read from the socket: a server that sends single bytes slowly, or endless
reply lines, could block its client indefinitely.
"""

import smtplib
import socket
import ssl
import time
from contextlib import suppress

#: Maximum size of a reply in bytes. RFC 5321 allows 512 bytes per line, and the reply to EHLO has
#: about twenty lines.
REPLY_LIMIT = 65_536

#: Maximum number of characters that an error quotes from an invalid reply.
_QUOTED = 80

_READY = 220
_PART = 65_536


class Garbled(smtplib.SMTPException):
    """The server sent something other than an SMTP reply."""


class Dialogue(smtplib.SMTP):
    """The client's side of a dialogue; `limit` is the maximum time of the next step in seconds."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self._received = b""

    def begin(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Connect, over TLS from the first byte if `tls` is set; the next step is the greeting.

        Raises `OSError`.
        """
        self.sock = socket.create_connection((host, port), self.limit)
        if tls:
            self._wrap(tls, host)

    def greeting(self) -> None:
        """Wait for the server's greeting. Raises `smtplib.SMTPException` or `OSError`."""
        code, text = self.getreply()
        if code != _READY:
            raise smtplib.SMTPConnectError(code, text)

    def encrypt(self, tls: ssl.SSLContext, host: str) -> None:
        """Continue over TLS (STARTTLS), and discard the extensions that the server has announced.

        Raises `smtplib.SMTPException` or `OSError`.
        """
        self._read_extensions()
        if not self.has_extn("starttls"):
            raise smtplib.SMTPNotSupportedError("the server does not offer STARTTLS")
        code, text = self.docmd("STARTTLS")
        if code != _READY:
            raise smtplib.SMTPResponseException(code, text)
        if self._received:
            # An attacker on the network could have inserted these bytes.
            raise Garbled("the server continued in plaintext after STARTTLS")
        self._wrap(tls, host)
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False

    def introduce(self) -> None:
        """Send EHLO and read the server's extensions, unless they were read before.

        Raises `smtplib.SMTPException` or `OSError`.
        """
        self._read_extensions()

    def send(self, data: str | bytes) -> None:  # type: ignore[override]
        """Send within the limit. Raises `OSError`, after which the dialogue is closed."""
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        self.sock.settimeout(self.limit)
        try:
            self.sock.sendall(data.encode(self.command_encoding) if isinstance(data, str) else data)
        except OSError:
            self.close()
            raise

    def getreply(self) -> tuple[int, bytes]:
        """Return the code and the text of the next reply.

        Raises `TimeoutError` if the reply is not complete within the limit, `Garbled` if it is not
        a reply, and `OSError` or `SMTPServerDisconnected` if the connection is lost. The dialogue
        is closed after each of these.
        """
        try:
            return self._reply(time.monotonic() + self.limit)
        except (smtplib.SMTPException, OSError):
            self.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._received = b""
        with suppress(OSError):
            super().close()

    def _read_extensions(self) -> None:
        if self.ehlo_resp is not None or self.helo_resp is not None:
            return
        code, text = self.ehlo()
        if code // 100 == 5:
            code, text = self.helo()
        if code // 100 != 2:
            raise smtplib.SMTPHeloError(code, text)

    def _wrap(self, tls: ssl.SSLContext, host: str) -> None:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        self.sock.settimeout(self.limit)
        self.sock = tls.wrap_socket(self.sock, server_hostname=host)

    def _reply(self, deadline: float) -> tuple[int, bytes]:
        texts: list[bytes] = []
        size = 0
        while True:
            line = self._line(deadline)
            size += len(line)
            if size > REPLY_LIMIT:
                raise Garbled(f"a reply of more than {REPLY_LIMIT} bytes")
            code = _code(line)
            texts.append(line[4:].strip(b" \t\r\n"))
            if line[3:4] != b"-":
                return code, b"\n".join(texts)

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._received:
            if len(self._received) > REPLY_LIMIT:
                raise Garbled(f"a line of more than {REPLY_LIMIT} bytes")
            self._receive(deadline)
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _receive(self, deadline: float) -> None:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("not connected")
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"no answer within {self.limit:g} s")
        self.sock.settimeout(remaining)
        try:
            part = self.sock.recv(_PART)
        except TimeoutError:
            raise TimeoutError(f"no answer within {self.limit:g} s") from None
        if not part:
            raise smtplib.SMTPServerDisconnected("the server closed the connection")
        self._received += part


def _code(line: bytes) -> int:
    digits = line[:3]
    if not (digits.isdigit() and 200 <= int(digits) <= 599 and line[3:4] in b" -\r"):
        raise Garbled(f"not an SMTP reply: {line[:_QUOTED]!r}")
    return int(digits)
