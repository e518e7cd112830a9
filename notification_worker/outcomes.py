"""Outcomes: what is recorded, logged and counted of each attempt to send a mail."""

import logging
import random

from eventbus.errors import Permanent, Transient
from notification_worker.claims import Claimed, Mark
from notification_worker.domain import MAX_UNSURE, Status, retry_delay, unsure_delay
from notification_worker.mail.rendering import message_id
from notification_worker.metrics import MAILS
from notification_worker.smtp.evidence import Evidence
from notification_worker.smtp.failures import Interrupted, SenderRefused, Unreachable, Unsure

#: Seconds between two attempts of a mail that is not known to be at fault itself. Short, as the
#: mail may be fine; not none, as the others must come first.
LONGEST_DOUBT = 60.0

#: Why an attempt failed; None if it did not.
Failure = Transient | Permanent | None

log = logging.getLogger(__name__)


class Outcomes:
    """Judges attempts: by the failure itself, and by the evidence of others."""

    def __init__(self, *, domain: str, max_attempts: int) -> None:
        """`domain` is that of the Message-IDs."""
        self._domain = domain
        self._max_attempts = max_attempts
        self.evidence = Evidence()

    def judge(self, mail: Claimed, failure: Failure) -> Mark:
        """Return what is to be recorded of an attempt."""
        if failure is None:
            self.evidence.taken(mail.id)
            return self._sent(mail)
        if isinstance(failure, Unsure):
            self.evidence.against(mail.id)
            return self._unsure(mail, failure)
        if isinstance(failure, Unreachable | Interrupted | SenderRefused):
            return self._doubtful(mail, failure)
        self.evidence.answered(mail.id)
        if isinstance(failure, Permanent) and not self.evidence.refuses_all():
            return self._given_up(mail, failure)
        return self._deferred(mail, failure)

    def abandoned(self, mail: Claimed) -> Mark | None:
        """Return what is to be recorded of a mail whose mailer ended while it was sending it.

        None lets it be sent now: after the first time, as the delay of the lease is enough for what
        happens once.
        """
        if not mail.taken_over or mail.unsure <= 1:
            return None
        # The claim has counted it already.
        before = mail._replace(unsure=mail.unsure - 1)
        mark = self._unsure(before, Unsure("the mailer ended while it was sending this mail"))
        return mark._replace(unsure=False)

    def _sent(self, mail: Claimed) -> Mark:
        MAILS.labels("sent").inc()
        log.info("a mail was sent", extra=self._about(mail))
        return self._mark(mail, Status.SENT)

    def _unsure(self, mail: Claimed, failure: Unsure) -> Mark:
        unsure = mail.unsure + 1
        if unsure >= MAX_UNSURE:
            return self._given_up(mail, failure)._replace(unsure=True)
        MAILS.labels("unsure").inc()
        delay = unsure_delay(unsure)
        about = self._about(mail) | {"reason": str(failure), "delay": delay}
        log.warning("mail outcome unknown", extra=about)
        mark = self._mark(mail, Status.PENDING, error=str(failure), delay=delay)
        return mark._replace(unsure=True)

    def _doubtful(self, mail: Claimed, failure: Transient) -> Mark:
        if self.evidence.against(mail.id):
            if isinstance(failure, SenderRefused) and failure.permanent:
                return self._given_up(mail, failure)
            return self._deferred(mail, failure)
        # The server's fault until it is shown to be the mail's: it is not charged.
        delay = retry_delay(self.evidence.doubtful, jitter=_jitter(), longest=LONGEST_DOUBT)
        about = self._about(mail) | {"reason": str(failure), "delay": delay}
        log.info("mail returned to the backlog", extra=about)
        mark = self._mark(mail, Status.PENDING, error=str(failure), delay=delay)
        return mark._replace(charged=False)

    def _deferred(self, mail: Claimed, failure: Transient | Permanent) -> Mark:
        attempt = mail.attempts + 1
        if attempt >= self._max_attempts:
            return self._given_up(mail, failure)
        MAILS.labels("deferred").inc()
        delay = retry_delay(attempt, jitter=_jitter())
        about = self._about(mail) | {"reason": str(failure), "delay": delay}
        log.warning("a mail must wait", extra=about)
        return self._mark(mail, Status.PENDING, error=str(failure), delay=delay)

    def _given_up(self, mail: Claimed, failure: Transient | Permanent) -> Mark:
        MAILS.labels("given_up").inc()
        log.error("a mail was given up", extra=self._about(mail) | {"reason": str(failure)})
        return self._mark(mail, Status.FAILED, error=str(failure))

    def _mark(
        self, mail: Claimed, status: Status, *, error: str | None = None, delay: float | None = None
    ) -> Mark:
        name = message_id(mail.order_id, mail.kind, self._domain)
        return Mark(mail.id, status, name, error=error, delay=delay)

    @staticmethod
    def _about(mail: Claimed) -> dict[str, object]:
        order_id = str(mail.order_id)
        return {"order_id": order_id, "kind": mail.kind, "attempt": mail.attempts + 1}


def _jitter() -> float:
    return random.random()  # noqa: S311
