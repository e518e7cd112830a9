"""The relay: takes events from the outbox to the exchange, each at least once, in order per order.

A tick starts a drain, which runs until the next tick is due; several relays may run. It looks for
events while they come, and sleeps until the outbox's doorbell rings when none came for a while.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from sqlalchemy import Row, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from common import codec, db, metrics, tls
from common.conversion import convert
from common.db import Sessions, transaction
from common.in_flight import InFlight, Outgoing, Report
from common.kombu_topology import Service
from common.outbox import relay_state
from common.publisher import ConfirmingPublisher, Publisher
from common.settings import ServiceSettings, broker_url
from common.unsent import Rows, Unsent
from common.versions import versions

log = logging.getLogger(__name__)

#: Seconds at most for which events gather after a batch that was not full. Measured on two
#: processors: without, 99 orders a second, and 34 ms to a decision at 20 a second; with 0.02, 140
#: and 40 ms; with 0.05, 145 and 61 ms.
LONGEST_GATHERING = 0.02

#: Events that are claimed, sent and marked together. While they come faster than they leave, two
#: such batches are on their way.
BATCH = 500

#: Seconds until the broker is asked again about an event that it returned or refused.
UNROUTABLE_DELAY = 5.0
REFUSED_DELAY = 1.0

#: Seconds to wait when the broker did not answer.
BROKER_DELAY = 1.0

#: Seconds until a relay looks again whether another one still drains the outbox.
HELD_DELAY = 0.025

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


class Relay:
    """Drains the outbox of one service."""

    def __init__(
        self, sessions: Sessions, publisher: Publisher, *, sent_as: Sequence[str] = ()
    ) -> None:
        """`sent_as` are the versions in which a fact goes out, if not in the one that it is in."""
        self._sessions = sessions
        self._publisher = publisher
        self._sent_as = {version: tuple(sent_as) for t in sent_as for version in versions(t)}
        self._broker_error: str | None = None
        self._batch = BATCH
        self._unheard: frozenset[str] = frozenset()

    @classmethod
    def from_settings(
        cls, service: Service, settings: ServiceSettings, *, sent_as: Sequence[str] = ()
    ) -> "Relay":
        """Return the relay of a process; it connects at its first drain."""
        publisher = ConfirmingPublisher(
            broker_url(settings),
            tls=tls.broker_options(settings),
            service=service.name,
            user=settings.broker_user,
            heartbeat=settings.broker_heartbeat,
        )
        return cls(db.sessions(db.engine(settings, session=SESSION)), publisher, sent_as=sent_as)

    def drain(self, until: float) -> None:
        """Publish what is in the outbox, and what comes in, until `time.monotonic()` is `until`."""
        try:
            self._publisher.heartbeat()
            self._record_state()
            with Unsent.of(self._sessions) as unsent:
                while time.monotonic() < until and not unsent.hold():
                    time.sleep(HELD_DELAY)
                self._drain(unsent, until)
        except DBAPIError as error:
            # The next tick tries again; what was confirmed but not marked is sent twice.
            log.error("the database failed the relay", extra={"reason": str(error.orig).strip()})

    def relay_once(self) -> int:
        """Publish one batch and mark what the broker confirmed; returns how many it confirmed."""
        with Unsent.of(self._sessions) as unsent:
            batch = self._send(unsent, None) if unsent.hold() else None
            return self._settle(unsent, batch) if batch else 0

    def _drain(self, unsent: Unsent, until: float) -> None:
        ahead: _Batch | None = None
        try:
            while (now := time.monotonic()) < until:
                batch = self._send(unsent, ahead)
                if ahead:
                    sent_before, ahead = ahead, None
                    self._settle(unsent, sent_before)
                if batch and batch.is_full and not batch.in_flight.report.error:
                    # The broker works on this one while the next one is claimed and sent.
                    ahead = batch
                elif batch and (sent := self._settle(unsent, batch)):
                    self._gather(sent, now, until)
                elif self._broker_error:
                    unsent.write()
                    time.sleep(min(BROKER_DELAY, until - now))
                else:
                    unsent.sleep(until - now)
        finally:
            if ahead:
                self._settle(unsent, ahead)

    def _send(self, unsent: Unsent, ahead: "_Batch | None") -> "_Batch | None":
        began = time.monotonic()
        rows = unsent.claim(self._batch, but=ahead.rows if ahead else ())
        if not rows:
            self._broker_error = None
            return None
        in_flight = self._publisher.send(
            [message for row in rows for message in self._messages(row)]
        )
        return _Batch(rows, in_flight, began)

    def _settle(self, unsent: Unsent, batch: "_Batch") -> int:
        # Nothing is marked before its confirm: a relay that dies in between sends again, and the
        # inboxes drop the second copy.
        rows, report = batch.rows, self._publisher.settle(batch.in_flight)
        self._isolate(rows, report)
        _mark(unsent, rows, report)
        _observe(rows, report, time.monotonic() - batch.began)
        self._note(rows, report)
        return len(report.confirmed)

    def _messages(self, row: Row[Any]) -> Iterator[Outgoing]:
        # A row has whichever version its writer was set to; what goes out is decided here.
        types = self._sent_as.get(row.type, (row.type,))
        event = None if types == (row.type,) else codec.decode(msgspec.json.decode(row.event))
        for event_type in types:
            text = row.event
            if event and event_type != row.type:
                text = codec.encode(convert(event, event_type)).decode()
            yield Outgoing(row.event_id, event_type, text, row.subject)

    def _gather(self, sent: int, began: float, until: float) -> None:
        # An event that comes alone waits for nobody. When they come faster than batches leave,
        # fewer and larger ones cost less, here and in all who consume them.
        if sent < self._batch:
            now = time.monotonic()
            worth = (sent - 1) * (now - began)
            time.sleep(max(0.0, min(worth, LONGEST_GATHERING, until - now)))

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
        if report.unheard - self._unheard:
            about = {"types": ", ".join(sorted(report.unheard))}
            log.warning("versions of events are published that nobody hears", extra=about)
        self._unheard = self._unheard | report.unheard
        orders = {row.event_id: str(row.subject) for row in rows}
        for event_id, reason in report.returned.items():
            about = {"event_id": str(event_id), "order_id": orders[event_id], "reason": reason}
            log.error("unroutable", extra=about)

    def _record_state(self) -> None:
        state = {"passed_at": func.clock_timestamp(), "broker_error": self._broker_error}
        with transaction(self._sessions) as session:
            row = insert(relay_state).values(id=1, **state)
            session.execute(row.on_conflict_do_update(index_elements=["id"], set_=state))


@dataclass(frozen=True)
class _Batch:
    rows: Rows
    in_flight: InFlight
    #: When it was claimed.
    began: float

    @property
    def is_full(self) -> bool:
        return len(self.rows) == BATCH


def _mark(unsent: Unsent, rows: Rows, report: Report) -> None:
    if report.confirmed:
        unsent.mark_sent(row.id for row in rows if row.event_id in report.confirmed)
    if report.refused:
        refused = [row.id for row in rows if row.event_id in report.refused]
        unsent.postpone(refused, REFUSED_DELAY, None)
    for row in rows:
        if row.event_id in report.returned:
            unsent.postpone([row.id], UNROUTABLE_DELAY, report.returned[row.event_id])


def _observe(rows: Rows, report: Report, took: float) -> None:
    for row in rows:
        if row.event_id in report.confirmed:
            metrics.EVENT_CONFIRMED.labels(row.type).observe(row.age + took)
