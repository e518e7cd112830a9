"""A real SMTP server that stores emails, or rejects them."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from testkit.servers.workers import own_ports


class Mailbox:
    """The received emails, and the reply to the next email."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self._reply: str | None = None
        #: Seconds before the reply to each email.
        self.delay = 0.0
        self.port = own_ports().smtp_port
        self._controller: Controller | None = None

    @classmethod
    @contextmanager
    def running(cls) -> "Iterator[Mailbox]":
        """Listen on 127.0.0.1 during the block."""
        mailbox = cls()
        mailbox.start()
        try:
            yield mailbox
        finally:
            mailbox.stop()

    @property
    def host(self) -> str:
        """The address of the server."""
        return "127.0.0.1"

    def start(self) -> None:
        """Listen, on the same port as before."""
        # aiosmtpd logs five lines for each email.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        self._controller = Controller(self, hostname=self.host, port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Stop listening: connections are refused."""
        if self._controller:
            self._controller.stop()
            self._controller = None

    def refuse(self, code: int, text: str) -> None:
        """Reply to every email with this text from now on."""
        self._reply = f"{code} {text}"

    def accept(self) -> None:
        """Accept every email from now on."""
        self._reply = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Store or reject one email. Called by aiosmtpd."""
        await asyncio.sleep(self.delay)
        if self._reply:
            return self._reply
        content: Any = envelope.content
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 stored"
