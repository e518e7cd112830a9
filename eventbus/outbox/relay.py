"""The relay of an outbox: it publishes each event at least once, and an order's events in sequence.

A drain runs until its deadline. Several relays may run: one publishes the outbox, or each publishes
a part. A drain polls while events arrive, and otherwise sleeps until the wake-up of the outbox.
Events that the broker rejects wait in lanes, and are retried alongside other events.
"""

import logging
import time
from collections.abc import Sequence
from types import MappingProxyType

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from eventbus import tls
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.publisher import ConfirmingPublisher, Publisher
from eventbus.outbox.aside import Aside
from eventbus.outbox.batches import Batch, Batches
from eventbus.outbox.claim_start import Start
from eventbus.outbox.claims import Claim, Claims
from eventbus.outbox.lanes import BEHIND, Lanes
from eventbus.outbox.outcomes import Outcomes
from eventbus.outbox.slots import WHOLE, Part
from eventbus.outbox.table import relay_state
from eventbus.settings.broker import broker_url
from eventbus.settings.outbox import OutboxSettings
from eventbus.telemetry.privacy import described
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: Maximum seconds for which events accumulate after a batch that was not full. The throughput, and
#: the time to a decision at 20 orders/s, were measured on two processors: 99 orders/s and 34 ms
#: with a value of 0, 140 orders/s and 40 ms with 0.02, and 145 orders/s and 61 ms with 0.05.
LONGEST_GATHERING = 0.02

#: Maximum number of events that are claimed, sent and marked together. While events arrive faster
#: than they are published, two such batches are in flight.
BATCH = 500

#: Seconds between attempts to acquire the lock while another relay drains the outbox.
HELD_DELAY = 0.025

#: Seconds to wait for the confirms of events in lanes while there is no other work.
ASIDE_WAIT = 0.02

#: Number of events of the lane `BEHIND` that a drain examines, each with a lookup of its order's
#: events.
BEHIND_SCAN = 500

#: Seconds for which a drain waits at its end for the confirms of events in lanes.
LAST_WAIT = 0.1

#: PostgreSQL parameters of the relay's sessions.
SESSION = MappingProxyType(
    {
        # If the database loses marks in a crash, their events are sent again, as after a crash of
        # the relay. Waiting for the disk would have no benefit.
        "synchronous_commit": "off",
        # A relay that hangs, or whose machine has disappeared, must not hold the lock indefinitely.
        "idle_session_timeout": "60s",
        # Every statement must read a range of an index, in index order, regardless of statistics:
        # if the last ANALYZE found no unsent event, each claim would read and sort all of them.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_sort": "off",
        "jit": "off",
    }
)


class Relay:
    """The relay of one service's outbox."""

    def __init__(
        self,
        sessions: Sessions,
        publisher: Publisher,
        *,
        sent_as: Sequence[str] = (),
        part: Part = WHOLE,
    ) -> None:
        """`sent_as` lists the published versions of a fact; by default the stored version."""
        self._sessions = sessions
        self._publisher = publisher
        self._part = part
        self._batches = Batches(publisher, sent_as)
        #: Maximum number of events in the next batch.
        self._limit = BATCH
        #: Batches in flight, oldest first; at most two.
        self._in_flight: list[Batch] = []
        self._lanes = Lanes()
        self._outcomes = Outcomes(self._lanes)
        self._aside = Aside(self._batches, self._lanes, self._outcomes)
        self._start = Start()
        #: Id of the last event of the lane `BEHIND` that was examined.
        self._examined_to = 0
        #: The slots of the last drain.
        self._slots: Sequence[int] = ()

    @classmethod
    def from_settings(
        cls, service: Service, settings: OutboxSettings, *, sent_as: Sequence[str] = ()
    ) -> "Relay":
        """Return the relay of a process; it connects at its first drain."""
        publisher = ConfirmingPublisher(
            broker_url(settings),
            tls=tls.broker_options(settings),
            service=service.name,
            user=settings.broker_user,
            exchange=service.bus.events.name,
            heartbeat=settings.broker_heartbeat,
        )
        sessions = db.sessions(db.engine(settings, session=SESSION))
        part = Part(settings.relay_part, settings.relay_parts)
        return cls(sessions, publisher, sent_as=sent_as, part=part)

    def drain(self, until: float) -> None:
        """Publish unsent and new events of the outbox until `time.monotonic()` reaches `until`."""
        try:
            self._publisher.heartbeat()
            self._record_state()
            # Back off without holding the lock, because another relay may reach the broker.
            time.sleep(max(0.0, min(self._outcomes.wait, until - time.monotonic())))
            with Claims.of(self._sessions, self._start, self._part) as claims:
                while time.monotonic() < until and not claims.hold():
                    time.sleep(HELD_DELAY)
                if time.monotonic() < until:
                    self._drain(claims, until)
        except DBAPIError as error:
            # The next drain retries; events that were confirmed but not marked are sent twice.
            log.error("drain failed with a database error", extra={"reason": described(error)})
            self._start.reset()

    def _drain(self, claims: Claims, until: float) -> None:
        if claims.slots != self._slots:
            # Other relays have published the new slots, so this relay's start does not apply to
            # them.
            self._slots = claims.slots
            self._start.reset()
        now = time.monotonic()
        waiting = claims.lanes()
        if waiting.pop(BEHIND, None) is not None:
            self._examined_to = claims.release_free(self._examined_to, BEHIND_SCAN)
        for name, seconds in waiting.items():
            self._lanes.open(name, now + seconds)
        while now < until and not self._outcomes.wait and self._is_ready(until):
            self._aside.advance(claims)
            claim = self._send(claims)
            # While the broker processes a full batch, the next batch is claimed and sent.
            is_ahead = bool(claim.rows) and claim.read == BATCH
            confirmed = self._settle(claims, max_in_flight=int(is_ahead))
            if claim.read == confirmed == 1 and not self._lanes:
                # On a quiet system the mark and the check for the next event share a round trip.
                claims.sleep(max(0.0, until - time.monotonic()), naps=False)
            elif claim.rows and confirmed and not is_ahead:
                self._gather(confirmed, now, until)
            elif not (is_ahead or confirmed or claim.held or self._outcomes.wait):
                self._idle(claims, until)
            now = time.monotonic()
        self._settle(claims, max_in_flight=0)
        self._aside.settle(claims, time.monotonic() + LAST_WAIT)

    def _is_ready(self, until: float) -> bool:
        if self._publisher.ready(until):
            return True
        self._outcomes.note("the broker is short of memory or disk space")
        return False

    def _send(self, claims: Claims) -> Claim:
        began = time.monotonic()
        in_flight = [row.id for batch in self._in_flight for row in batch.rows]
        claim = claims.claim(self._limit, but=in_flight, aside=self._lanes)
        self._lanes.extend(claim.held, began)
        if claim.rows:
            self._in_flight.append(self._batches.send(claim.rows, began))
        elif not in_flight and not self._lanes:
            self._outcomes.note(None)
        return claim

    def _settle(self, claims: Claims, *, max_in_flight: int) -> int:
        # No event is marked before its confirm: after a crash in between, a relay sends the event
        # again, and the inboxes drop the second copy.
        confirmed = 0
        while len(self._in_flight) > max_in_flight:
            report = self._batches.settle(self._in_flight[0])
            if report is None:
                break
            confirmed += self._outcomes.record(claims, self._in_flight.pop(0), report)
            # The broker does not report which event it objects to, and after an outage it may fail
            # again: start with a single event, so few events are sent twice.
            self._limit = 1 if report.error else min(2 * self._limit, BATCH)
        return confirmed

    def _gather(self, sent: int, began: float, until: float) -> None:
        # A single event is not delayed. When events arrive faster than batches are published, fewer
        # and larger batches cost less, both in the relay and in all consumers.
        if sent < self._limit:
            now = time.monotonic()
            delay = (sent - 1) * (now - began)
            time.sleep(max(0.0, min(delay, LONGEST_GATHERING, until - now)))

    def _idle(self, claims: Claims, until: float) -> None:
        now = time.monotonic()
        if self._aside.is_on_its_way:
            claims.write()
            self._aside.settle(claims, min(until, now + ASIDE_WAIT))
        elif (lane := self._lanes.next()) is None:
            claims.sleep(max(0.0, until - now))
        elif lane.due > now:
            claims.sleep(max(0.0, min(until, lane.due) - now))

    def _record_state(self) -> None:
        state = {
            "passed_at": func.clock_timestamp(),
            "broker_error": self._outcomes.broker_error,
        }
        with transaction(self._sessions) as session:
            row = insert(relay_state).values(id=self._part.number + 1, **state)
            session.execute(row.on_conflict_do_update(index_elements=["id"], set_=state))
            # Delete the rows of relays that no longer exist, because the outbox has fewer parts.
            session.execute(delete(relay_state).where(relay_state.c.id > self._part.parts))
