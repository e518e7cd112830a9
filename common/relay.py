"""The relay: takes events from the outbox to the exchange, each at least once, in order per order.

A tick starts a drain, which runs until the next tick is due; several relays may run. It looks for
events while they come, and sleeps until the outbox's doorbell rings when none came for a while.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from common import db, metrics, tls
from common.db import Sessions, transaction
from common.doorbell import Doorbell
from common.kombu_topology import Service
from common.outbox import outbox, relay_state
from common.publisher import ConfirmingPublisher, Outgoing, Publisher, Report
from common.settings import ServiceSettings, broker_url

log = logging.getLogger(__name__)

Rows = Sequence[Row[*tuple[Any, ...]]]

#: Seconds between two looks at an empty outbox soon after an event: a look costs a fifth of a
#: millisecond, to be woken more, and most events come soon after others.
BUSY_POLL = 0.004

#: Seconds at most for which events gather after a batch that was not full. Measured on two
#: processors: without, 99 orders a second, and 34 ms to a decision at 20 a second; with 0.02, 140
#: and 40 ms; with 0.05, 145 and 61 ms.
LONGEST_GATHERING = 0.02

#: Seconds for which an outbox is busy after an event. Then the relay sleeps.
BUSY_TIME = 1.0

#: Events claimed, and on their way to the broker, at once.
BATCH = 500

#: Seconds until the broker is asked again about an event that it returned or refused.
UNROUTABLE_DELAY = timedelta(seconds=5)
REFUSED_DELAY = timedelta(seconds=1)

#: Seconds to wait when the broker did not answer.
BROKER_DELAY = 1.0

#: PostgreSQL's parameters for the relay's sessions.
SESSION = MappingProxyType(
    {
        # What a crash of the database undoes is sent again, as after a crash of the relay: to wait
        # for the disk would win nothing.
        "synchronous_commit": "off",
        # A relay that hangs, or whose machine has gone, must not keep the lock for ever.
        "idle_session_timeout": "60s",
    }
)

# One relay at a time drains an outbox. A drain keeps the lock; its end, or its connection's, is the
# lock's, too.
_locked = select(func.pg_try_advisory_lock(func.hashtext("outbox"))).scalar_subquery()
_UNLOCK = "SELECT pg_advisory_unlock_all()"

# An event waits for the earlier ones of its order: they may be unroutable, or refused.
_earlier = outbox.alias("earlier")
_CLAIM = (
    select(outbox.c.id, outbox.c.event_id, outbox.c.type, outbox.c.subject, outbox.c.event)
    .where(
        _locked,
        outbox.c.sent_at.is_(None),
        outbox.c.next_attempt_at <= func.now(),
        ~select(1)
        .where(
            _earlier.c.subject == outbox.c.subject,
            _earlier.c.sent_at.is_(None),
            _earlier.c.id < outbox.c.id,
        )
        .exists(),
    )
    .order_by(outbox.c.next_attempt_at, outbox.c.id)
)


#: Whether there is anything to claim; a look at the first entry of an index.
_WAITING = """
SELECT EXISTS (SELECT FROM outbox WHERE sent_at IS NULL AND next_attempt_at <= now())
"""

#: Seconds until the first event is due; the same look.
_DUE = """
SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float
FROM outbox WHERE sent_at IS NULL
"""


class Relay:
    """Drains the outbox of one service."""

    def __init__(self, sessions: Sessions, publisher: Publisher) -> None:
        self._sessions = sessions
        self._publisher = publisher
        self._doorbell = Doorbell(sessions, outbox.name, look=_DUE)
        self._broker_error: str | None = None
        self._batch = BATCH
        self._busy_until = 0.0

    @classmethod
    def from_settings(cls, service: Service, settings: ServiceSettings) -> "Relay":
        """Return the relay of a process; it connects at its first drain."""
        publisher = ConfirmingPublisher(
            broker_url(settings),
            tls=tls.broker_options(settings),
            service=service.name,
            user=settings.broker_user,
            heartbeat=settings.broker_heartbeat,
        )
        # One connection to drain, one for the doorbell and for its state.
        return cls(db.sessions(db.engine(settings, pool_size=2, session=SESSION)), publisher)

    def drain(self, until: float) -> None:
        """Publish what is in the outbox, and what comes in, until `time.monotonic()` is `until`."""
        try:
            self._publisher.heartbeat()
            self._record_state()
            with self._draining() as connection:
                while (now := time.monotonic()) < until:
                    if not connection.exec_driver_sql(_WAITING).scalar():
                        self._broker_error = None
                    elif sent := self._relay(connection):
                        self._busy_until = now + BUSY_TIME
                        self._gather(sent, now, until)
                        continue
                    self._rest(now, until)
        except DBAPIError as error:
            # The next tick tries again; what was confirmed but not marked is sent twice.
            log.error("the database failed the relay", extra={"reason": str(error.orig).strip()})

    def relay_once(self) -> int:
        """Publish one batch and mark what the broker confirmed; returns how many it confirmed."""
        with self._draining() as connection:
            return self._relay(connection)

    @contextmanager
    def _draining(self) -> Iterator[Connection]:
        # Each statement is a transaction by itself: nothing here needs two, and each round trip
        # delays every event behind it.
        with self._sessions.kw["bind"].connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                yield connection
            finally:
                if not connection.invalidated:
                    connection.exec_driver_sql(_UNLOCK)

    def _relay(self, connection: Connection) -> int:
        # Nothing is marked before its confirm: a relay that dies in between sends again, and the
        # inboxes drop the second copy.
        rows = connection.execute(_CLAIM.limit(self._batch)).all()
        if not rows:
            self._broker_error = None
            return 0
        report = self._publisher.publish(
            [Outgoing(row.event_id, row.type, row.event, row.subject) for row in rows]
        )
        self._isolate(rows, report)
        _mark(connection, rows, report)
        self._note(rows, report)
        return len(report.confirmed)

    def _gather(self, sent: int, began: float, until: float) -> None:
        # An event that comes alone waits for nobody. When they come faster than batches leave,
        # fewer and larger ones cost less, here and in all who consume them.
        if sent < self._batch:
            now = time.monotonic()
            worth = (sent - 1) * (now - began)
            time.sleep(max(0.0, min(worth, LONGEST_GATHERING, until - now)))

    def _rest(self, now: float, until: float) -> None:
        if self._broker_error:
            time.sleep(min(BROKER_DELAY, until - now))
        elif now < self._busy_until:
            time.sleep(min(BUSY_POLL, until - now))
        else:
            self._doorbell.sleep(until - now)

    def _isolate(self, rows: Rows, report: Report) -> None:
        # The broker closes the channel for one event that it objects to, and does not tell which:
        # send one at a time until it is found, so that it holds up no other order's events.
        if not report.error:
            self._batch = min(2 * self._batch, BATCH)
        elif report.objected:
            self._batch = 1
            if len(rows) == 1:
                report.returned[rows[0].event_id] = report.error

    def _note(self, rows: Rows, report: Report) -> None:
        # One line when the broker goes and one when it is back, not one a second.
        if report.error != self._broker_error:
            if report.error:
                log.error("the broker does not take events", extra={"reason": report.error})
            else:
                log.info("the broker takes events again")
        self._broker_error = report.error
        if report.refused:
            log.warning("a queue is full or has no quorum", extra={"events": len(report.refused)})
        orders = {row.event_id: str(row.subject) for row in rows}
        for event_id, reason in report.returned.items():
            about = {"event_id": str(event_id), "order_id": orders[event_id], "reason": reason}
            log.error("unroutable", extra=about)

    def _record_state(self) -> None:
        state = {"passed_at": func.clock_timestamp(), "broker_error": self._broker_error}
        with transaction(self._sessions) as session:
            row = insert(relay_state).values(id=1, **state)
            session.execute(row.on_conflict_do_update(index_elements=["id"], set_=state))


def _mark(connection: Connection, rows: Rows, report: Report) -> None:
    sent = [row.id for row in rows if row.event_id in report.confirmed]
    if sent:
        marked = connection.execute(
            update(outbox)
            .where(outbox.c.id == func.any(sent))
            .values(sent_at=func.clock_timestamp(), unroutable_reason=None)
            .returning(outbox.c.type, outbox.c.sent_at - outbox.c.created_at)
        )
        for event_type, wait in marked:
            metrics.EVENT_CONFIRMED.labels(event_type).observe(wait.total_seconds())
    for row in rows:
        if row.event_id in report.returned:
            _postpone(connection, row.id, UNROUTABLE_DELAY, report.returned[row.event_id])
        elif row.event_id in report.refused:
            _postpone(connection, row.id, REFUSED_DELAY, None)


def _postpone(connection: Connection, row_id: int, delay: timedelta, reason: str | None) -> None:
    connection.execute(
        update(outbox)
        .where(outbox.c.id == row_id)
        .values(next_attempt_at=func.clock_timestamp() + delay, unroutable_reason=reason)
    )
