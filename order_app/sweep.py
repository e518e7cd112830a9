"""The sweep, which cancels orders that are still PENDING after their deadline.

It runs in its own loop and does not need the broker: neither a broker outage nor a full outbox
keeps an order PENDING. Deadlines are compared only with the database's clock.
"""

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from eventbus.database.bounded_scan import BoundedScan
from eventbus.database.db import Sessions, transaction
from eventbus.telemetry.privacy import described
from order_app.storage.orders import moment
from order_app.use_cases import sweep_deadlines

log = logging.getLogger(__name__)

#: Maximum number of orders that are cancelled in one transaction, which is low so that locks are
#: held only briefly.
BATCH = 100

#: The grace period after a deadline. After an outage of the broker, an order's event may just have
#: been published, and the reply may be in flight. Together with the loop's interval of a second,
#: the grace period is well within the five seconds after which no order may be PENDING.
GRACE = timedelta(seconds=2)

#: Seconds without a successful sweep that count as an outage of this process or of the database.
#: After such an outage, orders may be overdue only because of the outage.
ABSENCE = 3.0

#: Seconds after such an outage during which the sweep does not cancel orders, so that relays and
#: workers can resume and decide them. The limit of five seconds applies to deadlines after that
#: time.
RETURN = 4.0

#: Seconds between sweeps that start with the earliest deadline. The other sweeps start shortly
#: before the last sweep after which no order was overdue.
FULL_INTERVAL = 60.0

#: The maximum number of orders that are put off until the next full sweep because they could not be
#: cancelled. If there are more, the orders are not the cause.
MOST_FAILED = 1_000


class Sweep:
    """The cancellation of overdue orders, one batch at a time."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        #: The times (`time.monotonic()`) of the last success, and of the first success after an
        #: outage.
        self._last_success: float | None = None
        self._back_since = 0.0
        self._scan = BoundedScan()
        #: The time (`time.monotonic()`) from which the next sweep starts with the earliest
        #: deadline.
        self._next_full = 0.0
        #: The orders that could not be cancelled since the last full sweep.
        self._failed: set[UUID] = set()

    def step(self, until: float) -> int:
        """Cancel overdue orders until `time.monotonic()` reaches `until`, and return their number.

        The first call, and the calls in the following `RETURN` seconds, do not cancel orders. A
        database error is logged, and the next step retries. An order that cannot be cancelled is
        logged and put off until the next full sweep, so that it does not keep other orders PENDING.
        """
        swept = 0
        try:
            if self._is_back():
                swept = self._sweep(until)
            self._last_success = time.monotonic()
        except DBAPIError as error:
            log.error("sweep failed with a database error", extra={"reason": described(error)})
        if swept:
            log.info("overdue orders cancelled", extra={"orders": swept})
        return swept

    def _is_back(self) -> bool:
        now = time.monotonic()
        if self._last_success is None or now - self._last_success > ABSENCE:
            with transaction(self._sessions) as session:
                # An outage ends only when the database replies.
                session.connection().exec_driver_sql("SELECT")
            self._back_since = time.monotonic()
            # The next sweep is a full sweep, because the connection may lead to another database
            # with different orders.
            self._next_full = 0.0
        return now - self._back_since > RETURN

    def _sweep(self, until: float) -> int:
        swept, last = 0, BATCH
        if is_full := time.monotonic() >= self._next_full:
            self._scan = BoundedScan()
            self._failed.clear()
        while last == BATCH and len(self._failed) < MOST_FAILED and time.monotonic() < until:
            with transaction(self._sessions) as session:
                since = self._scan.begin(session)
                now = moment(session)
                some = sweep_deadlines(session, GRACE, BATCH, since=since, without=self._failed)
            last = some.found
            swept += some.cancelled
            self._put_off(some.failed)
        if last < BATCH:
            self._scan.end(session, None, now)
            if is_full:
                self._next_full = time.monotonic() + FULL_INTERVAL
        return swept

    def _put_off(self, failed: Mapping[UUID, Exception]) -> None:
        self._failed.update(failed)
        # One line is logged for each batch, because a bug affects all its orders.
        for order_id, error in islice(failed.items(), 1):
            log.error(
                "overdue orders not cancelled",
                extra={
                    "orders": len(failed),
                    "order_id": str(order_id),
                    "reason": described(error),
                },
            )
