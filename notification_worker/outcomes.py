"""Outcomes of attempts to send an email: each is recorded, logged and counted."""

import logging
import random

from eventbus.errors import Permanent, Transient
from notification_worker.claims import Claimed, Mark
from notification_worker.domain import MAX_UNSURE, Status, retry_delay, unsure_delay
from notification_worker.mail.rendering import message_id
from notification_worker.metrics import MAILS
from notification_worker.smtp.evidence import Evidence
from notification_worker.smtp.failures import (
    Deferred,
    Interrupted,
    Refused,
    SenderRefused,
    Unreachable,
    Unsure,
)

#: Longest delay, in seconds, before the next attempt to send an email that may not be the cause of
#: its failure. It is short, because the email may be valid, but not 0, because other emails must be
#: sent first.
LONGEST_DOUBT = 60.0

#: The failure of an attempt, or None.
Failure = Transient | Permanent | None

log = logging.getLogger(__name__)


class Outcomes:
    """The judge of attempts, by their own failures and the evidence of other attempts."""

    def __init__(self, *, domain: str, max_attempts: int) -> None:
        """`domain` is the domain of the Message-IDs."""
        self._domain = domain
        self._max_attempts = max_attempts
        self.evidence = Evidence()

    def judge(self, mail: Claimed, failure: Failure) -> Mark:
        """Return the outcome to record for an attempt."""
        if failure is None:
            self.evidence.taken(mail.id)
            return self._sent(mail)
        if isinstance(failure, Unsure):
            self.evidence.against(mail.id)
            return self._unsure(mail, failure)
        if isinstance(failure, Unreachable | Interrupted | SenderRefused):
            return self._doubtful(mail, failure)
        if isinstance(failure, Refused | Deferred):
            self.evidence.answered(mail.id)
        # The server is not the cause of any other failure. If such a failure counted as a verdict,
        # it would be evidence that the server processes emails, and the server's own failures would
        # be charged to other emails.
        if isinstance(failure, Permanent) and not self._is_common(failure):
            return self._given_up(mail, failure)
        return self._deferred(mail, failure)

    def _is_common(self, failure: Permanent) -> bool:
        return isinstance(failure, Refused) and self.evidence.refuses_all()

    def abandoned(self, mail: Claimed) -> Mark | None:
        """Return the outcome to record for an email whose mailer died while sending it.

        The result is None if the email may be sent now, as after the first crash, for which the
        delay of the lease is sufficient.
        """
        if not mail.taken_over or mail.unsure <= 1:
            return None
        # The claim has already counted this attempt.
        before = mail._replace(unsure=mail.unsure - 1)
        mark = self._unsure(before, Unsure("the mailer died while it was sending this email"))
        return mark._replace(unsure=False)

    def _sent(self, mail: Claimed) -> Mark:
        MAILS.labels("sent").inc()
        log.info("mail sent", extra=self._fields(mail))
        return self._mark(mail, Status.SENT)

    def _unsure(self, mail: Claimed, failure: Unsure) -> Mark:
        unsure = mail.unsure + 1
        if unsure >= MAX_UNSURE:
            return self._given_up(mail, failure)._replace(unsure=True)
        MAILS.labels("unsure").inc()
        delay = unsure_delay(unsure)
        fields = self._fields(mail) | {"reason": str(failure), "delay": delay}
        log.warning("mail outcome unknown", extra=fields)
        mark = self._mark(mail, Status.PENDING, error=str(failure), delay=delay)
        return mark._replace(unsure=True)

    def _doubtful(self, mail: Claimed, failure: Transient) -> Mark:
        if self.evidence.against(mail.id):
            if isinstance(failure, SenderRefused) and failure.permanent:
                return self._given_up(mail, failure)
            return self._deferred(mail, failure)
        # The failure is attributed to the server until there is evidence against the email, and is
        # not counted as an attempt.
        delay = retry_delay(self.evidence.doubtful, jitter=_jitter(), longest=LONGEST_DOUBT)
        fields = self._fields(mail) | {"reason": str(failure), "delay": delay}
        log.info("mail returned to the queue", extra=fields)
        mark = self._mark(mail, Status.PENDING, error=str(failure), delay=delay)
        return mark._replace(charged=False)

    def _deferred(self, mail: Claimed, failure: Transient | Permanent) -> Mark:
        attempt = mail.attempts + 1
        if attempt >= self._max_attempts:
            return self._given_up(mail, failure)
        MAILS.labels("deferred").inc()
        delay = retry_delay(attempt, jitter=_jitter())
        fields = self._fields(mail) | {"reason": str(failure), "delay": delay}
        log.warning("mail deferred", extra=fields)
        return self._mark(mail, Status.PENDING, error=str(failure), delay=delay)

    def _given_up(self, mail: Claimed, failure: Transient | Permanent) -> Mark:
        MAILS.labels("given_up").inc()
        log.error("mail abandoned", extra=self._fields(mail) | {"reason": str(failure)})
        return self._mark(mail, Status.FAILED, error=str(failure))

    def _mark(
        self, mail: Claimed, status: Status, *, error: str | None = None, delay: float | None = None
    ) -> Mark:
        name = message_id(mail.order_id, mail.kind, self._domain)
        return Mark(mail.id, status, name, error=error, delay=delay)

    @staticmethod
    def _fields(mail: Claimed) -> dict[str, object]:
        order_id = str(mail.order_id)
        return {"order_id": order_id, "kind": mail.kind, "attempt": mail.attempts + 1}


def _jitter() -> float:
    return random.random()  # noqa: S311
