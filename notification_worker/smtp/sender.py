"""A sender: one connection to the mail server, and the mails that go over it one after another."""

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
from notification_worker.smtp.failures import Unreachable
from notification_worker.smtp.transport import Transport

#: Seconds for which mails gather after the last one that was due has left. Nobody waits for a mail,
#: and to be woken for each costs as much as to send it.
GATHERING = 0.1

#: Returns the seconds for which mails may be claimed: 0 or less when none may.
Left = Callable[[], float]

log = logging.getLogger(__name__)


class Sender:
    """Claims, sends and records mails on a thread of its own, one at a time.

    While the mail server is waited for, no transaction is open and no row is locked.
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
        #: Whether its thread runs, or is about to.
        self.works = False
        #: What could not be recorded yet: it is known to this sender alone.
        self._mark: Mark | None = None
        self._since: float | None = None

    def is_held_up(self, patience: float) -> bool:
        """Return whether the mail server has kept it waiting with one mail for so many seconds."""
        since = self._since
        return since is not None and time.monotonic() - since > patience

    def start(self, left: Left, ended: Event) -> None:
        """Send what is due and what becomes due, for as long as `left` returns seconds above 0.

        Sets `ended` when it stops.
        """
        self.works = True
        # A daemon: the process may end, and `Delivery.finish` waits for what is being sent.
        self._thread = Thread(target=self._run, args=(left, ended), name="sender", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until its thread has ended, for so many seconds at most."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """Take leave of the mail server, unless a mail is still being sent."""
        if not self.works:
            self._transport.close()

    def _run(self, left: Left, ended: Event) -> None:
        try:
            self._work(left)
        except Unreachable as outage:
            self._outage.note("the mail server takes no mail", str(outage))
        except SQLAlchemyError as error:
            self._outage.note("the database failed the mailer", described(error))
        except Exception as error:
            log.exception("sender failed")
            self._outage.note("the mailer failed", described(error))
        finally:
            self.works = False
            ended.set()

    def _work(self, left: Left) -> None:
        if self._mark:
            self._record(self._mark)
        while (seconds := left()) > 0:
            if self._transport.is_ready():
                found = self._send_due(left)
            elif found := self._backlog.anything_due():
                # Before a mail is claimed: no mail is charged for a server that is down.
                self._transport.open()
            if found:
                continue
            self._end_outage()
            if not self._backlog.wait(seconds):
                # Another sender waits for mails. This one was started because that was held up.
                return self._transport.close()
        return None

    def _send_due(self, left: Left) -> bool:
        probing = self._outcomes.evidence.unavailable
        first = mail = self._backlog.claim(probing=probing)
        while mail:
            self._mark = None if mail.put_off else self._deal_with(mail)
            if left() <= 0 or not self._transport.is_ready():
                break
            mail = self._backlog.claim(self._mark, probing=self._outcomes.evidence.unavailable)
            self._recorded()
        if self._mark:
            self._record(self._mark)
        if first:
            # What comes alone after a pause has left at once.
            time.sleep(max(0.0, min(GATHERING, left())))
        return first is not None

    def _record(self, mark: Mark) -> None:
        self._backlog.record(mark)
        self._recorded()

    def _recorded(self) -> None:
        # Not before the commit: a database that takes no marks is an outage, too.
        if self._mark:
            self._end_outage()
        self._mark = None

    def _end_outage(self) -> None:
        # Mails leave, or none waits.
        if not self._outcomes.evidence.doubtful:
            self._outage.end()

    def _deal_with(self, mail: Claimed) -> Mark:
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
        if isinstance(failure, Unreachable) or self._outcomes.evidence.unavailable:
            self._outage.note("the mail server takes no mail", str(failure))
        return mark

    def _attempt(self, mail: Claimed) -> Failure:
        try:
            self._transport.send(render(self._mail(mail), sender=self._sender))
        except (Transient, Permanent) as failure:
            return failure
        except Exception as surprise:
            # Raised, it would hold up all other mails behind this one.
            log.exception("a mail failed", extra={"order_id": str(mail.order_id)})
            return Transient(described(surprise))
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
    # Not the recipient, nor what the server says of it.
    about: dict[str, str | int] = {
        CATALOGUE.id_attribute: str(mail.order_id),
        "mail.kind": mail.kind,
        "attempt": mail.attempts + 1,
    }
    return tracing.span(f"send mail {mail.kind}", SpanKind.CLIENT, mail.traceparent, about)
