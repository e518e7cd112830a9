"""The newest emails, as received."""

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from threading import Lock

#: Number of emails that are kept, which arrive in a few minutes under load and take a few MB.
LIMIT = 1_000


@dataclass(frozen=True)
class Mail:
    """One email, parsed when its parts are read."""

    number: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    content: bytes

    @cached_property
    def _message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)

    @property
    def subject(self) -> str:
        """The subject, empty if there is none."""
        return str(self._message["subject"] or "")

    @property
    def text(self) -> str:
        """The plain text, empty if there is none."""
        return self._body("plain")

    @property
    def html(self) -> str:
        """The HTML, empty if there is none."""
        return self._body("html")

    def _body(self, kind: str) -> str:
        part = self._message.get_body((kind,))
        return str(part.get_content()) if part else ""


class Mailbox:
    """The last `LIMIT` emails; any thread may use it."""

    def __init__(self) -> None:
        self._mails: deque[Mail] = deque(maxlen=LIMIT)
        self._lock = Lock()
        #: The number of emails received.
        self.count = 0

    def add(self, sender: str, recipients: tuple[str, ...], content: bytes) -> None:
        """Store an email, in place of the oldest one if the mailbox is full."""
        with self._lock:
            self.count += 1
            mail = Mail(self.count, datetime.now(UTC), sender, recipients, content)
            self._mails.append(mail)

    def newest(self, limit: int) -> list[Mail]:
        """Return at most `limit` emails, the newest first."""
        with self._lock:
            return list(self._mails)[: -limit - 1 : -1]

    def get(self, number: int) -> Mail | None:
        """Return an email, or None if it is no longer, or not yet, in the mailbox."""
        with self._lock:
            return next((mail for mail in self._mails if mail.number == number), None)
