"""Delivery of recorded emails to the mail server: each is sent once unless an outcome is unknown.

An email is claimed by a committed lease, sent while no transaction is open, and marked in another
commit. After a crash or a lost reply, the email is sent again later, with the same Message-ID.
"""

import logging
import time
from collections.abc import Sequence
from email.headerregistry import Address
from threading import Event

from sqlalchemy.exc import SQLAlchemyError

from eventbus.database.db import Sessions
from notification_worker.mail_queue import Backlog, Position
from notification_worker.outage import Outage
from notification_worker.outcomes import Outcomes
from notification_worker.smtp.sender import Sender
from notification_worker.smtp.transport import Transport

#: Seconds between two checks of the senders.
SUPERVISION = 0.25

#: Seconds that one email may take before another sender starts for the other emails.
PATIENCE = 1.0

#: The grace period, in seconds, for emails that are being sent when the process exits. It is
#: shorter than the grace period of any supervisor (30 or more).
GRACE = 20.0

log = logging.getLogger(__name__)


class Delivery:
    """The sending of due emails; several instances may run concurrently."""

    def __init__(
        self,
        sessions: Sessions,
        transports: Sequence[Transport],
        *,
        sender: Address,
        operator: str,
        max_attempts: int,
        position: Position | None = None,
        outage: Outage | None = None,
    ) -> None:
        """While the server is slow, one email at a time is sent over each transport."""
        self._backlog = Backlog(sessions, position or Position())
        self._outage = outage or Outage()
        outcomes = Outcomes(domain=sender.domain, max_attempts=max_attempts)
        self._senders = [
            Sender(
                self._backlog, transport, outcomes, self._outage, sender=sender, operator=operator
            )
            for transport in transports
        ]
        self._until = 0.0
        self._ended = Event()

    def deliver(self, until: float) -> None:
        """Send emails as they become due, until a `time.monotonic()` deadline.

        Does not wait for the mail server: when this returns, an email may still be in transmission.
        """
        self._until = until
        while (seconds := until - time.monotonic()) > 0:
            if self._left() > 0:
                self._start_senders()
            self._renew()
            self._ended.wait(min(SUPERVISION, seconds))
            self._ended.clear()

    def finish(self, within: float = GRACE) -> None:
        """Stop claiming emails, and wait for the emails that are being sent."""
        self._until = 0.0
        deadline = time.monotonic() + within
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
        self._backlog.release()

    def close(self) -> None:
        """Wait for the emails that are being sent, and close the connections to the mail server."""
        self.finish()
        for sender in self._senders:
            sender.close()

    def _left(self) -> float:
        now = time.monotonic()
        return 0.0 if now < self._outage.resume_at else self._until - now

    def _start_senders(self) -> None:
        """Ensure that outcomes are recorded, and that a sender is running that no server delays."""
        for sender in self._senders:
            # Only this sender knows the outcome. The email remains claimed until the outcome is
            # recorded.
            if sender.has_unrecorded_outcome:
                sender.start(self._left, self._ended)
        if any(sender.works and not sender.is_held_up(PATIENCE) for sender in self._senders):
            return
        if idle := next((sender for sender in self._senders if not sender.works), None):
            idle.start(self._left, self._ended)

    def _renew(self) -> None:
        try:
            self._backlog.renew()
        except SQLAlchemyError as error:
            # The step is repeated soon, and the senders report an outage that lasts.
            log.debug("claims not renewed", extra={"reason": type(error).__name__})
