"""The sweep: orders that were not decided in time are cancelled.

It turns in a loop of its own, without the broker: neither a broker that is away nor an outbox that
is full keeps an order PENDING. Deadlines are compared with the database's clock alone.
"""

import logging
import time
from datetime import timedelta

from sqlalchemy.exc import DBAPIError

from eventbus.database.db import Sessions, transaction
from eventbus.database.looks import Looks
from order_app.storage.orders import moment
from order_app.use_cases import sweep_deadlines

log = logging.getLogger(__name__)

#: Orders cancelled in one transaction: few enough to hold their locks briefly.
BATCH = 100

#: How long an order stays after its deadline: its event may just have left, after an outage of the
#: broker, and its decision be on the way. With the loop's second well within the five seconds after
#: which no order is PENDING.
GRACE = timedelta(seconds=2)

#: Seconds without a successful sweep after which orders may be overdue that the outage itself, of
#: this process or of the database, kept from being decided.
ABSENCE = 3.0

#: Seconds for which a sweep that is back cancels nothing: relays and workers are back then, too,
#: and decide what can be decided. The five seconds hold for each deadline from then on.
RETURN = 4.0

#: Seconds from one sweep that begins with the first deadline to the next. The others begin shortly
#: before the last sweep that left nothing overdue.
FULL_INTERVAL = 60.0


class Sweep:
    """Cancels overdue orders, a batch at a time."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        #: `time.monotonic()` of the last success, and of the first one after an absence.
        self._last_success: float | None = None
        self._back_since = 0.0
        self._looks = Looks()
        #: `time.monotonic()` at which the next sweep begins with the first deadline.
        self._next_full = 0.0

    def step(self, until: float) -> int:
        """Cancel overdue orders until `time.monotonic()` is `until`; return how many.

        Cancels nothing at its first call and for `RETURN` seconds from then on. A database that
        fails is logged: the next step tries again.
        """
        swept = 0
        try:
            if self._is_back():
                swept = self._sweep(until)
            self._last_success = time.monotonic()
        except DBAPIError as error:
            log.error("the database failed the sweep", extra={"reason": str(error.orig).strip()})
        if swept:
            log.info("overdue orders are cancelled", extra={"orders": swept})
        return swept

    def _is_back(self) -> bool:
        now = time.monotonic()
        if self._last_success is None or now - self._last_success > ABSENCE:
            with transaction(self._sessions) as session:
                # Only a database that answers ends an absence.
                session.connection().exec_driver_sql("SELECT")
            self._back_since = time.monotonic()
            # It may be another one, with other orders.
            self._next_full = 0.0
        return now - self._back_since > RETURN

    def _sweep(self, until: float) -> int:
        swept, last = 0, BATCH
        if is_full := time.monotonic() >= self._next_full:
            self._looks = Looks()
        while last == BATCH and time.monotonic() < until:
            with transaction(self._sessions) as session:
                since = self._looks.begin(session)
                now = moment(session)
                last = sweep_deadlines(session, GRACE, BATCH, since=since)
            swept += last
        if last < BATCH:
            self._looks.end(session, None, now)
            if is_full:
                self._next_full = time.monotonic() + FULL_INTERVAL
        return swept
