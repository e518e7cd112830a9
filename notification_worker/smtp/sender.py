"""A sender: one connection to the mail server, over which it sends one email after another."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from email.headerregistry import Address
from threading import Event, Thread

from opentelemetry.trace import Span, SpanKind
from sqlalchemy.exc import SQLAlchemyError

from common.events import CATALOGUE
from eventbus.errors import Permanent, Transient
from eventbus.telemetry import tracing
from eventbus.telemetry.privacy import described
from notification_worker.claims import Claimed, Mark
from notification_worker.domain import OPERATOR
from notification_worker.mail.rendering import Mail, render
from notification_worker.mail_queue import Backlog
from notification_worker.outage import Outage
from notification_worker.outcomes import Failure, Outcomes
from notification_worker.smtp.failures import Doubtful, Unreachable
from notification_worker.smtp.transport import Transport

#: Seconds for which emails accumulate after the last due email was sent. An email may be late,
#: whereas each wake-up costs as much as sending an email.
GATHERING = 0.1

#: A function that returns the seconds for which emails may be claimed; 0 or less means stop.
Left = Callable[[], float]

log = logging.getLogger(__name__)


class Sender:
    """A sender of emails on its own thread, one at a time.

    While it waits for the mail server, no transaction is open and no row is locked.
    """

    def __init__(
        self,
        backlog: Backlog,
        transport: Transport,
        outcomes: Outcomes,
        outage: Outage,
        *,
        sender: Address,
        operator: str,
    ) -> None:
        self._backlog = backlog
        self._transport = transport
        self._outcomes = outcomes
        self._outage = outage
        self._sender = sender
        self._operator = operator
        self._thread: Thread | None = None
        #: Whether the thread is running or starting.
        self.works = False
        #: An outcome that is not recorded yet, and that only this sender knows.
        self._mark: Mark | None = None
        self._since: float | None = None

    def is_held_up(self, patience: float) -> bool:
        """Return whether one email has waited for the server for more than `patience` seconds."""
        since = self._since
        return since is not None and time.monotonic() - since > patience

    @property
    def has_unrecorded_outcome(self) -> bool:
        """Whether it has ended before it could record the outcome of an email."""
        return not self.works and self._mark is not None

    def start(self, left: Left, ended: Event) -> None:
        """Send emails as they become due, while `left` returns more than 0 seconds.

        Sets `ended` when it stops.
        """
        self.works = True
        # The thread is a daemon, so that the process can end. `Delivery.finish` waits for the
        # current email.
        self._thread = Thread(target=self._run, args=(left, ended), name="sender", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, for at most this number of seconds."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """Close the connection to the mail server, unless an email is still being sent."""
        if not self.works:
            self._transport.close()

    def _run(self, left: Left, ended: Event) -> None:
        try:
            self._work(left)
        except Unreachable as outage:
            self._outage.note("mail server unavailable", str(outage))
        except SQLAlchemyError as error:
            self._outage.note("mailer failed with a database error", described(error))
        except Exception as error:
            log.exception("sender failed")
            self._outage.note("mailer failed", described(error))
        finally:
            self.works = False
            ended.set()

    def _work(self, left: Left) -> None:
        if self._mark:
            self._record(self._mark)
        while (seconds := left()) > 0:
            if self._transport.is_ready():
                has_due = self._send_due(left)
            elif has_due := self._backlog.anything_due():
                # The connection is opened before an email is claimed, so that an outage of the
                # server does not count as an attempt.
                self._transport.open()
            if has_due:
                continue
            self._end_outage()
            if not self._backlog.wait(seconds):
                # Another sender, which was delayed when this sender was started, waits for emails.
                return self._transport.close()
        return None

    def _send_due(self, left: Left) -> bool:
        probing = self._outcomes.evidence.unavailable
        first = mail = self._backlog.claim(probing=probing)
        while mail:
            self._mark = None if mail.put_off else self._process(mail)
            if left() <= 0 or not self._transport.is_ready():
                break
            mail = self._backlog.claim(self._mark, probing=self._outcomes.evidence.unavailable)
            self._recorded()
        if self._mark:
            self._record(self._mark)
        if first:
            # The first email after a pause was sent without this delay.
            time.sleep(max(0.0, min(GATHERING, left())))
        return first is not None

    def _record(self, mark: Mark) -> None:
        self._backlog.record(mark)
        self._recorded()

    def _recorded(self) -> None:
        # The pause ends after the commit, because a database that rejects marks is also an outage.
        if self._mark:
            self._end_outage()
        self._mark = None

    def _end_outage(self) -> None:
        # Emails are accepted, or no email is pending.
        if not self._outcomes.evidence.doubtful:
            self._outage.end()

    def _process(self, mail: Claimed) -> Mark:
        if mark := self._outcomes.abandoned(mail):
            return mark
        self._since = time.monotonic()
        try:
            with _span(mail) as span:
                failure = self._attempt(mail)
                if failure:
                    tracing.fail(span, type(failure).__name__)
                mark = self._outcomes.judge(mail, failure)
        finally:
            self._since = None
        if isinstance(failure, Unreachable) or (
            isinstance(failure, Doubtful) and self._outcomes.evidence.unavailable
        ):
            self._outage.note("mail server unavailable", str(failure))
        return mark

    def _attempt(self, mail: Claimed) -> Failure:
        try:
            self._transport.send(render(self._mail(mail), sender=self._sender))
        except (Transient, Permanent) as failure:
            return failure
        except Exception as error:
            # If the error were raised, it would block all other emails.
            log.exception("mail attempt raised an error", extra={"order_id": str(mail.order_id)})
            return Transient(described(error))
        return None

    def _mail(self, mail: Claimed) -> Mail:
        return Mail(
            order_id=mail.order_id,
            kind=mail.kind,
            recipient=self._operator if mail.recipient == OPERATOR else mail.recipient,
            context=mail.context,
            written_at=mail.created_at,
        )


def _span(mail: Claimed) -> AbstractContextManager[Span]:
    # The line contains neither the recipient nor the server's reply.
    attributes: dict[str, str | int] = {
        CATALOGUE.id_attribute: str(mail.order_id),
        "mail.kind": mail.kind,
        "attempt": mail.attempts + 1,
    }
    return tracing.span(f"send mail {mail.kind}", SpanKind.CLIENT, mail.traceparent, attributes)
