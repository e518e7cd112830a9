"""A mail server that discards every email, at almost no cost.

The tests' server stores and parses emails, which takes longer than the system takes for an order.
"""

from deploy.local.mail_server.smtp import Server
from testkit.mail.mailbox import Mailbox


class MailSink(Mailbox):
    """A `Mailbox` without messages."""

    def start(self) -> None:
        """Listen, in a thread."""
        self._server = Server(self, self.host, self.port)

    def stop(self) -> None:
        """Stop listening."""
        self._server.stop()

    def add(self, sender: str, recipients: tuple[str, ...], content: bytes) -> None:
        """Discard an email."""
