"""A mail server that takes every mail and forgets it, at next to no cost.

The tests' one keeps and parses what it gets, which takes longer than the system needs for an order.
"""

import asyncio
import threading
from typing import cast

from tests.support.mailbox import Mailbox

_END = b"\r\n.\r\n"


class MailSink(Mailbox):
    """A `Mailbox` whose messages are always none."""

    def start(self) -> None:
        """Listen, on a thread."""
        self._loop = asyncio.new_event_loop()
        listening = self._loop.create_server(_Conversation, self.host, self.port)
        self._server = self._loop.run_until_complete(listening)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Conversation(asyncio.Protocol):
    """As much of RFC 5321 as a client that sends correct mails can see."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""
        self._in_mail = False
        self._transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_END if self._in_mail else b"\r\n")) >= 0:
            said = self._received[:end]
            self._received = self._received[end + (5 if self._in_mail else 2) :]
            self._answer(said[:4].upper())

    def _answer(self, verb: bytes) -> None:
        if self._in_mail:
            self._in_mail = False
            self._transport.write(b"250 taken\r\n")
        elif verb == b"DATA":
            self._in_mail = True
            self._transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        elif verb == b"EHLO":
            self._transport.write(b"250-sink\r\n250 PIPELINING\r\n")
        else:
            self._transport.write(b"250 sink\r\n")
