"""The SMTP server, which accepts every email.

It supports as much of RFC 5321 as a client needs. A library that parses addresses requires several
times the CPU time for each email.
"""

import asyncio
import re
import threading
from typing import Protocol, cast

#: Maximum number of bytes of one email, and of one command.
SIZE_LIMIT = 10_000_000
LINE_LIMIT = 2_000

_END_OF_COMMAND, _END_OF_MAIL = b"\r\n", b"\r\n.\r\n"
_ADDRESS = re.compile(rb"<([^>]*)>")


class Store(Protocol):
    """A store of emails."""

    def add(self, sender: str, recipients: tuple[str, ...], content: bytes) -> None:
        """Store an email; called on the server's thread."""


class Conversation(asyncio.Protocol):
    """One connection; a client may send several commands together."""

    def __init__(self, mailbox: Store) -> None:
        self._mailbox = mailbox
        self._received = bytearray()
        self._in_mail = False
        self._sender: str | None = None
        self._recipients: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        self._transport = cast(asyncio.Transport, transport)
        self._reply("220 local mail server")

    def data_received(self, data: bytes) -> None:
        """Process all complete commands and emails."""
        self._received += data
        while (part := self._next()) is not None:
            if self._in_mail:
                self._store(part)
            else:
                self._run(part)
        if len(self._received) > (SIZE_LIMIT if self._in_mail else LINE_LIMIT):
            self._reply("552 too long")
            self._transport.close()

    def _next(self) -> bytes | None:
        end = _END_OF_MAIL if self._in_mail else _END_OF_COMMAND
        at = self._received.find(end)
        if at < 0 or self._transport.is_closing():
            return None
        part = bytes(self._received[:at])
        del self._received[: at + len(end)]
        return part

    def _store(self, content: bytes) -> None:
        # RFC 5321, 4.5.2: the client has doubled each dot at the start of a line.
        content = content.removeprefix(b"\r\n").replace(b"\r\n.", b"\r\n")
        self._mailbox.add(self._sender or "", tuple(self._recipients), content + b"\r\n")
        self._reset()
        self._reply("250 kept")

    def _run(self, command: bytes) -> None:
        match command[:4].upper():
            case b"EHLO":
                self._reply("250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8")
            case b"HELO" | b"NOOP":
                self._reply("250 localhost")
            case b"MAIL":
                self._reset()
                self._sender = _address(command)
                self._reply("250 ok")
            case b"RCPT" if self._sender is not None:
                self._recipients.append(_address(command))
                self._reply("250 ok")
            case b"DATA" if self._recipients:
                self._in_mail = True
                # An empty email ends with the line break of this command.
                self._received[:0] = b"\r\n"
                self._reply("354 end with a dot")
            case b"RSET":
                self._reset()
                self._reply("250 ok")
            case b"QUIT":
                self._reply("221 bye")
                self._transport.close()
            case b"RCPT" | b"DATA":
                self._reply("503 MAIL, then RCPT, then DATA")
            case _:
                self._reply("500 unknown command")

    def _reset(self) -> None:
        self._in_mail = False
        self._sender = None
        self._recipients = []

    def _reply(self, line: str) -> None:
        self._transport.write(f"{line}\r\n".encode())


class Server:
    """An SMTP server on a separate thread."""

    def __init__(self, mailbox: Store, host: str, port: int) -> None:
        """Start listening. Raises `OSError` if the port is in use."""
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
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _address(command: bytes) -> str:
    match = _ADDRESS.search(command)
    return match[1].decode(errors="replace") if match else ""
