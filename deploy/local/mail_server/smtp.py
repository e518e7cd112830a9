"""The SMTP side: every mail is taken.

It supports as much of RFC 5321 as a client needs. A library that parses addresses takes several
times the processor time for each mail.
"""

import asyncio
import re
import threading
from typing import Protocol, cast

#: Bytes of one mail, and of one command.
SIZE_LIMIT = 10_000_000
LINE_LIMIT = 2_000

_END_OF_COMMAND, _END_OF_MAIL = b"\r\n", b"\r\n.\r\n"
_ADDRESS = re.compile(rb"<([^>]*)>")


class Store(Protocol):
    """A place that mails are kept in."""

    def add(self, sender: str, recipients: tuple[str, ...], content: bytes) -> None:
        """Take a mail; called on the thread of the server."""


class Conversation(asyncio.Protocol):
    """One connection; commands may be sent together."""

    def __init__(self, mailbox: Store) -> None:
        self._mailbox = mailbox
        self._received = bytearray()
        self._in_mail = False
        self._sender: str | None = None
        self._recipients: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast(asyncio.Transport, transport)
        self._say("220 local mail server")

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._received += data
        while (part := self._next()) is not None:
            if self._in_mail:
                self._take(part)
            else:
                self._answer(part)
        if len(self._received) > (SIZE_LIMIT if self._in_mail else LINE_LIMIT):
            self._say("552 too long")
            self._transport.close()

    def _next(self) -> bytes | None:
        end = _END_OF_MAIL if self._in_mail else _END_OF_COMMAND
        at = self._received.find(end)
        if at < 0 or self._transport.is_closing():
            return None
        part = bytes(self._received[:at])
        del self._received[: at + len(end)]
        return part

    def _take(self, content: bytes) -> None:
        # RFC 5321, 4.5.2: the client has doubled a dot that begins a line.
        content = content.removeprefix(b"\r\n").replace(b"\r\n.", b"\r\n")
        self._mailbox.add(self._sender or "", tuple(self._recipients), content + b"\r\n")
        self._reset()
        self._say("250 kept")

    def _answer(self, command: bytes) -> None:
        match command[:4].upper():
            case b"EHLO":
                self._say("250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8")
            case b"HELO" | b"NOOP":
                self._say("250 localhost")
            case b"MAIL":
                self._reset()
                self._sender = _address(command)
                self._say("250 ok")
            case b"RCPT" if self._sender is not None:
                self._recipients.append(_address(command))
                self._say("250 ok")
            case b"DATA" if self._recipients:
                self._in_mail = True
                # An empty mail ends with the line break of this command.
                self._received[:0] = b"\r\n"
                self._say("354 end with a dot")
            case b"RSET":
                self._reset()
                self._say("250 ok")
            case b"QUIT":
                self._say("221 bye")
                self._transport.close()
            case b"RCPT" | b"DATA":
                self._say("503 MAIL, then RCPT, then DATA")
            case _:
                self._say("500 unknown command")

    def _reset(self) -> None:
        self._in_mail = False
        self._sender = None
        self._recipients = []

    def _say(self, line: str) -> None:
        self._transport.write(f"{line}\r\n".encode())


class Server:
    """Accepts mails on a separate thread."""

    def __init__(self, mailbox: Store, host: str, port: int) -> None:
        """Begin to listen. Raises `OSError` if the port is taken."""
        self._loop = asyncio.new_event_loop()
        listening = self._loop.create_server(lambda: Conversation(mailbox), host, port)
        try:
            self._server = self._loop.run_until_complete(listening)
        except OSError:
            self._loop.close()
            raise
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _address(command: bytes) -> str:
    found = _ADDRESS.search(command)
    return found[1].decode(errors="replace") if found else ""
