"""A mail server that takes every mail and forgets it, at next to no cost.

The tests' one keeps and parses what it gets, which takes longer than the system needs for an order.
"""

from deploy.local.mail_server.smtp import Server
from testkit.mail.mailbox import Mailbox


class MailSink(Mailbox):
    """A `Mailbox` whose messages are always none."""

    def start(self) -> None:
        """Listen, on a thread."""
        self._server = Server(self, self.host, self.port)

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop()

    def add(self, sender: str, recipients: tuple[str, ...], content: bytes) -> None:
        """Forget a mail."""
