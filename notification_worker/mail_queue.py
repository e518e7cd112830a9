"""The queue of pending emails, as one mailer reads and claims it.

Entries of sent emails stay in the index until a vacuum, and a scan from the first entry reads all
of them. A scan therefore starts shortly before the place where the previous scan found an email.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from threading import Lock
from uuid import uuid4

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from eventbus.database.db import Sessions, engine_of
from eventbus.database.wakeup import Wakeup
from notification_worker import claims
from notification_worker.claims import (
    FRESH,
    LEASE,
    SHORTLY,
    STRAY,
    UNCLAIMED,
    Claimed,
    Mark,
    Scan,
)
from notification_worker.models import Notification

#: Number of emails, and time, before the last email found at which a scan starts, because
#: transactions do not commit in the order of their rows. The next full scan finds older emails.
OVERLAP = 1_000
OVERLAP_TIME = timedelta(seconds=5)

#: Seconds between two full scans, which start at the first entry.
FULL_SCAN = 30.0

#: Seconds after which a claim is renewed, so a lease covers several failed renewals.
RENEWAL = LEASE / 4

_EPOCH = "epoch"

#: The query that returns the seconds until the first email from a position onwards is due. Emails
#: that are being sent are not due.
NEXT_DUE = f"""
SELECT least((
    SELECT 0.0 FROM notifications
    WHERE status = 'PENDING' AND {FRESH.format("%s")} AND {UNCLAIMED}
    ORDER BY next_attempt_at, id LIMIT 1
), (
    SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float FROM notifications
    WHERE status = 'PENDING' AND next_attempt_at > %s AND {UNCLAIMED}
    ORDER BY next_attempt_at, id LIMIT 1
), (
    SELECT 0.0 FROM notifications WHERE status = 'PENDING' AND {STRAY} AND {UNCLAIMED} LIMIT 1
))
"""  # noqa: S608, constants of these modules


class Position:
    """The start of the next scans: an id for new emails, and a time for all other emails."""

    def __init__(self) -> None:
        self.fresh = 0
        self.again: datetime | str = _EPOCH
        self._full_at = time.monotonic()

    def rewind(self) -> None:
        """Start the next scan at the first entry."""
        self.fresh, self.again = 0, _EPOCH
        self._full_at = time.monotonic()

    def rewind_if_due(self) -> bool:
        """Start the next scan at the first entry if a full scan is due. Return whether it is."""
        if is_due := time.monotonic() - self._full_at >= FULL_SCAN:
            self.rewind()
        return is_due

    def advance(self, scan: Scan) -> None:
        """Start the next scan shortly before the email that this scan found, or at the end."""
        if scan.mail is None:
            self.fresh = max(self.fresh, (scan.newest or 0) - OVERLAP)
            self.again = scan.at - OVERLAP_TIME
        elif scan.mail.fresh:
            self.fresh = scan.mail.id - OVERLAP
        elif scan.mail.due_at <= scan.at:
            self.again = scan.mail.due_at - OVERLAP_TIME

    @property
    def values(self) -> tuple[int, datetime | str]:
        """The parameters of a scan."""
        return self.fresh, self.again


class Backlog:
    """The emails of one database, and the claims of this mailer.

    The queue is thread-safe. The threads share one connection, on which no transaction stays open,
    and another for waiting. A thread that is sending an email uses neither connection.
    """

    def __init__(self, sessions: Sessions, position: Position) -> None:
        self._sessions = sessions
        engine = engine_of(sessions)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._position = position
        self._wakeup = Wakeup(Notification.__tablename__, next_due=NEXT_DUE)
        self._asleep = Lock()
        self._owner = str(uuid4())
        # The lock admits one statement at a time. Otherwise, a thread could claim an email that the
        # pending reply to another thread also contains.
        self._lock = Lock()
        self._connection: Connection | None = None
        #: The time at which each email that is being sent was claimed, or its claim was renewed.
        self._claimed: dict[int, float] = {}
        self._again = False

    def claim(self, mark: Mark | None = None, *, probing: bool = False) -> Claimed | None:
        """Record the outcome of a claimed email, and claim another due email, or return None.

        New emails and emails that are due again take turns. A failing server is probed with a new
        email, because the other emails may be the cause of its failures.
        """
        with self._connected() as connection:
            self._position.rewind_if_due()
            self._again = not (self._again or probing)
            values = (*self._position.values, list(self._claimed), self._owner, SHORTLY)
            marked = mark.values(self._owner) if mark else ()
            scan = claims.claim(connection, again=self._again, values=values, mark=marked)
            self._position.advance(scan)
            if mark:
                del self._claimed[mark.id]
            if scan.mail and not scan.mail.put_off:
                self._claimed[scan.mail.id] = time.monotonic()
        return scan.mail

    def record(self, mark: Mark) -> None:
        """Record the outcome of a claimed email."""
        with self._connected() as connection:
            claims.record(connection, mark.values(self._owner))
            del self._claimed[mark.id]

    def renew(self) -> None:
        """Renew the older claims, whose emails are still being sent."""
        if not self._expiring():
            return
        with self._connected() as connection:
            expiring, now = self._expiring(), time.monotonic()
            claims.renew(connection, expiring, self._owner)
            self._claimed |= dict.fromkeys(expiring, now)

    def anything_due(self) -> bool:
        """Return whether there may be an email to send now."""
        before = self._position.values
        with self._connected() as connection:
            # A full scan takes place even without new emails, because a clock that was set back, or
            # a late commit, may have left an email before the position.
            is_full = self._position.rewind_if_due()
            due = connection.exec_driver_sql(NEXT_DUE, self._position.values).scalar()
        is_due = due is not None and due <= 0
        if is_full and not is_due:
            # The position is kept, so that the next scans need not read all entries again.
            self._position.fresh, self._position.again = before
        return is_due

    def wait(self, seconds: float) -> bool:
        """Wait until an email is recorded or due, at most this number of seconds.

        Returns False immediately if another thread is already waiting.
        """
        if not self._asleep.acquire(blocking=False):
            return False
        try:
            # The pool tests whether an idle connection is still usable.
            self.release()
            self._wakeup.wait(self._sessions, seconds, *self._position.values)
        finally:
            self._asleep.release()
        return True

    def release(self) -> None:
        """Return the connection to the pool."""
        with self._lock:
            self._release()

    def _expiring(self) -> list[int]:
        since = time.monotonic() - RENEWAL
        return [mail for mail, at in list(self._claimed.items()) if at <= since]

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._lock:
            try:
                self._connection = self._connection or self._engine.connect()
                yield self._connection
            except SQLAlchemyError:
                # The next connection may lead to another server, so the position is reset.
                self._release()
                self._position.rewind()
                raise

    def _release(self) -> None:
        if self._connection:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
