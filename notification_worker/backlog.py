"""The backlog: the mails that wait, as one mailer sees and claims them.

What was sent stays in the index until a vacuum, and a look from its first entry passes over all of
it. So a look begins a little before the place where the last one found something.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import Lock
from uuid import uuid4

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from common.db import Sessions
from common.doorbell import Doorbell
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

    It may be used by several threads. No method leaves a transaction open, or a connection in use.
    """

    def __init__(self, sessions: Sessions, position: Position) -> None:
        self._sessions = sessions
        engine: Engine = sessions.kw["bind"]
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._position = position
        self._doorbell = Doorbell(Notification.__tablename__, look=LOOK)
        self._asleep = Lock()
        self._owner = str(uuid4())
        #: When each mail that is being sent was claimed, or its claim was renewed.
        self._claimed: dict[int, float] = {}
        self._claiming = Lock()
        self._again = False

    def claim(self, mark: Mark | None = None, *, probing: bool = False) -> Claimed | None:
        """Record what became of a claimed mail, and claim another that is due; None if none is.

        By turns it prefers those that were never tried, and those that are due again. A probe of a
        server that fails is one that was never tried: the others may be what it fails with.
        """
        # One at a time: else one thread could claim what the answer to another has yet to bring.
        with self._claiming:
            look = self._look(mark, probing=probing)
            if mark:
                del self._claimed[mark.id]
            if look.mail and not look.mail.put_off:
                self._claimed[look.mail.id] = time.monotonic()
        return look.mail

    def record(self, mark: Mark) -> None:
        """Record what became of a claimed mail."""
        with self._connection() as connection:
            claims.record(connection, mark.values(self._owner))
        with self._claiming:
            del self._claimed[mark.id]

    def renew(self) -> None:
        """Keep what was claimed a while ago: it is still being sent."""
        now = time.monotonic()
        with self._claiming:
            old = [mail for mail, since in self._claimed.items() if now - since >= RENEWAL]
        if old:
            with self._connection() as connection:
                claims.renew(connection, old, self._owner)
            with self._claiming:
                self._claimed |= {mail: now for mail in old if mail in self._claimed}

    def anything_due(self) -> bool:
        """Return whether there may be a mail to send now."""
        with self._connection() as connection:
            due = connection.exec_driver_sql(LOOK, self._position.values).scalar()
        return due is not None and due <= 0

    def wait(self, seconds: float) -> bool:
        """Return when a mail is recorded or due, and after so many seconds at the latest.

        False, at once, if another thread waits already.
        """
        if not self._asleep.acquire(blocking=False):
            return False
        try:
            self._doorbell.wait(self._sessions, seconds, *self._position.values)
        finally:
            self._asleep.release()
        return True

    def _look(self, mark: Mark | None, *, probing: bool) -> Look:
        self._position.rewind_if_due()
        self._again = not (self._again or probing)
        values = (*self._position.values, list(self._claimed), self._owner, SHORTLY)
        marked = mark.values(self._owner) if mark else ()
        with self._connection() as connection:
            look = claims.claim(connection, again=self._again, values=values, mark=marked)
        self._position.advance(look)
        return look

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError:
            # The next one may lead to another server.
            self._position.rewind()
            raise
