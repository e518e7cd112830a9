"""The backlog: the mails that wait, as one mailer sees and claims them.

What was sent stays in the index until a vacuum, and a look from its first entry passes over all of
it. So a look begins a little before the place where the last one found something.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from threading import Lock
from uuid import uuid4

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from eventbus.database.db import Sessions
from eventbus.database.wakeup import Wakeup
from notification_worker import claims
from notification_worker.claims import FRESH, LEASE, SHORTLY, Claimed, Look, Mark
from notification_worker.models import Notification

#: Mails before the last one that was found, and the time before it: transactions do not commit in
#: the order of their rows. What is older than that is found by the next look from the first entry.
LOOK_BACK = 1_000
LOOK_BACK_TIME = timedelta(seconds=5)

#: Seconds between two looks from the first entry.
FULL_LOOK = 30.0

#: Seconds after which a claim is renewed: several failures fit into the lease.
RENEWAL = LEASE / 4

_EPOCH = "epoch"

#: Seconds until the first mail is due, from a place on; what is being sent is not due.
LOOK = f"""
SELECT least((
    SELECT 0.0 FROM notifications
    WHERE status = 'PENDING' AND {FRESH.format("%s")}
        AND (claimed_until IS NULL OR claimed_until <= now())
    ORDER BY next_attempt_at, id LIMIT 1
), (
    SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float FROM notifications
    WHERE status = 'PENDING' AND next_attempt_at > %s
        AND (claimed_until IS NULL OR claimed_until <= now())
    ORDER BY next_attempt_at, id LIMIT 1
))
"""  # noqa: S608, constants of these modules


class Position:
    """Where looks for mails begin: among those never tried by id, among the others by time."""

    def __init__(self) -> None:
        self.fresh = 0
        self.again: datetime | str = _EPOCH
        self._full_at = time.monotonic()

    def rewind(self) -> None:
        """Let the next look begin at the first entry."""
        self.fresh, self.again = 0, _EPOCH
        self._full_at = time.monotonic()

    def rewind_if_due(self) -> None:
        """Do so after a while."""
        if time.monotonic() - self._full_at >= FULL_LOOK:
            self.rewind()

    def advance(self, look: Look) -> None:
        """Let the next look begin where this one found something, or at the end if it did not."""
        if look.mail is None:
            self.fresh = max(self.fresh, (look.newest or 0) - LOOK_BACK)
            self.again = look.at - LOOK_BACK_TIME
        elif look.mail.fresh:
            self.fresh = look.mail.id - LOOK_BACK
        else:
            self.again = look.mail.due_at - LOOK_BACK_TIME

    @property
    def values(self) -> tuple[int, datetime | str]:
        """The parameters of a look."""
        return self.fresh, self.again


class Backlog:
    """The mails of one database, and those of them that this mailer has claimed.

    It may be used by several threads. They share one connection, on which no transaction stays
    open, and another one to wait on; neither is theirs while they send.
    """

    def __init__(self, sessions: Sessions, position: Position) -> None:
        self._sessions = sessions
        engine: Engine = sessions.kw["bind"]
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._position = position
        self._wakeup = Wakeup(Notification.__tablename__, next_due=LOOK)
        self._asleep = Lock()
        self._owner = str(uuid4())
        # One statement at a time: else one thread could claim what the answer to another, which is
        # still on its way, brings as well.
        self._lock = Lock()
        self._connection: Connection | None = None
        #: When each mail that is being sent was claimed, or its claim was renewed.
        self._claimed: dict[int, float] = {}
        self._again = False

    def claim(self, mark: Mark | None = None, *, probing: bool = False) -> Claimed | None:
        """Record what became of a claimed mail, and claim another that is due; None if none is.

        By turns it prefers those that were never tried, and those that are due again. A probe of a
        server that fails is one that was never tried: the others may be what it fails with.
        """
        with self._connected() as connection:
            self._position.rewind_if_due()
            self._again = not (self._again or probing)
            values = (*self._position.values, list(self._claimed), self._owner, SHORTLY)
            marked = mark.values(self._owner) if mark else ()
            look = claims.claim(connection, again=self._again, values=values, mark=marked)
            self._position.advance(look)
            if mark:
                del self._claimed[mark.id]
            if look.mail and not look.mail.put_off:
                self._claimed[look.mail.id] = time.monotonic()
        return look.mail

    def record(self, mark: Mark) -> None:
        """Record what became of a claimed mail."""
        with self._connected() as connection:
            claims.record(connection, mark.values(self._owner))
            del self._claimed[mark.id]

    def renew(self) -> None:
        """Keep what was claimed a while ago: it is still being sent."""
        if not self._old():
            return
        with self._connected() as connection:
            old, now = self._old(), time.monotonic()
            claims.renew(connection, old, self._owner)
            self._claimed |= dict.fromkeys(old, now)

    def anything_due(self) -> bool:
        """Return whether there may be a mail to send now."""
        with self._connected() as connection:
            due = connection.exec_driver_sql(LOOK, self._position.values).scalar()
        return due is not None and due <= 0

    def wait(self, seconds: float) -> bool:
        """Return when a mail is recorded or due, and after so many seconds at the latest.

        False, at once, if another thread waits already.
        """
        if not self._asleep.acquire(blocking=False):
            return False
        try:
            # The pool finds out whether a connection that was idle is still good.
            self.release()
            self._wakeup.wait(self._sessions, seconds, *self._position.values)
        finally:
            self._asleep.release()
        return True

    def release(self) -> None:
        """Give the connection back to the pool."""
        with self._lock:
            self._release()

    def _old(self) -> list[int]:
        since = time.monotonic() - RENEWAL
        return [mail for mail, at in list(self._claimed.items()) if at <= since]

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._lock:
            try:
                self._connection = self._connection or self._engine.connect()
                yield self._connection
            except SQLAlchemyError:
                # The next one may lead to another server.
                self._release()
                self._position.rewind()
                raise

    def _release(self) -> None:
        if self._connection:
            with suppress(SQLAlchemyError):
                self._connection.close()
            self._connection = None
