"""A real SMTP server that keeps what it gets, or refuses it."""

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
    """What has arrived, and what to answer to the next mail."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self._answer: str | None = None
        self.port = own_ports().smtp_port
        self._controller: Controller | None = None

    @classmethod
    @contextmanager
    def running(cls) -> "Iterator[Mailbox]":
        """Listen on 127.0.0.1 for as long as the block lasts."""
        mailbox = cls()
        mailbox.start()
        try:
            yield mailbox
        finally:
            mailbox.stop()

    @property
    def host(self) -> str:
        """Where it listens."""
        return "127.0.0.1"

    def start(self) -> None:
        """Listen, on the same port as before."""
        # It has five lines to say of each mail.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        self._controller = Controller(self, hostname=self.host, port=self.port)
        self._controller.start()

    def stop(self) -> None:
        """Stop listening: connections are refused."""
        if self._controller:
            self._controller.stop()
            self._controller = None

    def refuse(self, code: int, text: str) -> None:
        """Answer every mail with this from now on."""
        self._answer = f"{code} {text}"

    def accept(self) -> None:
        """Take every mail from now on."""
        self._answer = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep or refuse one mail; called by aiosmtpd."""
        if self._answer:
            return self._answer
        content: Any = envelope.content
        message = message_from_bytes(content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 kept"
