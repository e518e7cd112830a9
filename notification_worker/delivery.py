"""Delivery: every recorded mail goes to the mail server, once unless something dies midway.

Each mail has a transaction of its own, which holds the mail's row while the mail is sent. A crash
between the server's yes and the commit repeats that one mail, with the same Message-ID.
"""

import logging
import random
import time
from contextlib import AbstractContextManager
from datetime import timedelta
from email.headerregistry import Address

from opentelemetry.trace import Span, SpanKind
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from common import tracing
from common.db import Sessions, transaction
from common.doorbell import Doorbell
from common.errors import Permanent, Transient
from notification_worker import backlog
from notification_worker.backlog import Claimed, Mark
from notification_worker.domain import OPERATOR, retry_delay
from notification_worker.mail import Mail, message_id, render
from notification_worker.models import Notification
from notification_worker.smtp import Transport, Unreachable

#: Seconds. A mail server that is back is noticed within this time.
LONGEST_PAUSE = 30.0

#: Seconds for which mails gather after the last one that was due has left. Nobody waits for a mail,
#: and to be woken for each costs as much as to send it.
GATHERING = 0.1

#: After a mail, those are looked for that are due since so long before it.
LOOK_BACK = timedelta(seconds=5)

#: Why an attempt failed; None if it did not.
Failure = Transient | Permanent | None

log = logging.getLogger(__name__)


class Delivery:
    """Sends the mails that are due; any number of these may work side by side."""

    def __init__(
        self,
        sessions: Sessions,
        transport: Transport,
        *,
        sender: Address,
        operator: str,
        max_attempts: int,
    ) -> None:
        self._sessions = sessions
        self._engine: Engine = sessions.kw["bind"]
        self._doorbell = Doorbell(Notification.__tablename__, look=backlog.LOOK)
        self._transport = transport
        self._sender = sender
        self._operator = operator
        self._max_attempts = max_attempts
        self._outages = 0
        self._resume_at = 0.0

    def deliver(self, until: float) -> None:
        """Send mails as they become due, until a `time.monotonic()` deadline.

        Returns at once while the mail server or the database is given time to recover.
        """
        try:
            while self._resume_at <= (now := time.monotonic()) < until:
                if not self._advance(until):
                    self._doorbell.wait(self._sessions, until - now)
        except Unreachable as outage:
            self._pause("the mail server takes no mail", str(outage))
        except DBAPIError as error:
            # A mail that was sent but not marked is sent again: not every second for hours.
            self._pause("the database failed the mailer", str(error.orig).strip())

    def _advance(self, until: float) -> bool:
        if self._transport.is_ready():
            return self._deliver_due(until)
        with transaction(self._sessions) as session:
            due = backlog.anything_due(session)
        if due:
            # Before a mail is claimed: no mail is charged for a server that is down, and no
            # transaction stays open while the server is being waited for.
            self._transport.open()
        return due

    def _deliver_due(self, until: float) -> bool:
        with self._engine.connect() as connection:
            first = mail = backlog.claim(connection)
            while mail:
                mark, failure = self._deliver(mail)
                if isinstance(failure, Unreachable):
                    backlog.record(connection, mark)
                    raise failure
                if time.monotonic() < until:
                    # Who is older, as its transaction lasted long, is found by the next look.
                    since = mail.next_attempt_at - LOOK_BACK
                    mail = backlog.record_and_claim(connection, mark, since=since)
                else:
                    backlog.record(connection, mark)
                    mail = None
                # Not before the commit: a database that takes no marks is an outage, too.
                self._resume()
        if first:
            # With no connection held. What comes alone after a pause has left at once.
            time.sleep(max(0.0, min(GATHERING, until - time.monotonic())))
        return first is not None

    def _deliver(self, mail: Claimed) -> tuple[Mark, Failure]:
        if mail.earlier:
            return backlog.postponed(mail), None
        with _span(mail) as span:
            failure = self._attempt(mail)
            if failure:
                tracing.fail(span, type(failure).__name__)
            return self._mark(mail, failure), failure

    def _attempt(self, mail: Claimed) -> Failure:
        try:
            self._transport.send(render(self._mail(mail), sender=self._sender))
        except (Transient, Permanent) as failure:
            return failure
        except Exception as surprise:
            # Raised, it would hold up all other mails behind this one.
            log.exception("a mail failed", extra={"order_id": str(mail.order_id)})
            return Transient(f"{type(surprise).__name__}: {surprise}")
        return None

    def _mail(self, mail: Claimed) -> Mail:
        return Mail(
            order_id=mail.order_id,
            kind=mail.kind,
            recipient=self._operator if mail.recipient == OPERATOR else mail.recipient,
            context=mail.context,
            written_at=mail.created_at,
        )

    def _mark(self, mail: Claimed, failure: Failure) -> Mark:
        attempt = mail.attempts + 1
        name = message_id(mail.order_id, mail.kind, self._sender.domain)
        about: dict[str, object] = {
            "order_id": str(mail.order_id),
            "kind": mail.kind,
            "attempt": attempt,
        }
        if failure is None:
            log.info("a mail was sent", extra=about)
            return backlog.sent(mail, message_id=name)
        error = about["reason"] = str(failure)
        if isinstance(failure, Permanent) or attempt >= self._max_attempts:
            log.error("a mail was given up", extra=about)
            return backlog.failed(mail, message_id=name, error=error)
        delay = retry_delay(attempt, jitter=random.random())  # noqa: S311
        log.warning("a mail must wait", extra=about | {"delay": delay})
        return backlog.deferred(mail, message_id=name, error=error, delay=delay)

    def _pause(self, event: str, reason: str) -> None:
        # One line when mails stop and one when they leave again, not one for each try.
        if not self._outages:
            log.error(event, extra={"reason": reason})
        self._outages += 1
        pause = retry_delay(self._outages, jitter=random.random(), longest=LONGEST_PAUSE)  # noqa: S311
        self._resume_at = time.monotonic() + pause

    def _resume(self) -> None:
        if self._outages:
            log.info("mails leave again")
        self._outages = 0


def _span(mail: Claimed) -> AbstractContextManager[Span]:
    # Not the recipient, nor what the server says of it.
    about: dict[str, str | int] = {
        tracing.ORDER_ID: str(mail.order_id),
        "mail.kind": mail.kind,
        "attempt": mail.attempts + 1,
    }
    return tracing.span(f"send mail {mail.kind}", SpanKind.CLIENT, mail.traceparent, about)
