"""The relay: takes events from the outbox to the exchange, each at least once, in order per order.

A drain runs until its end, and several relays may run. It looks for events while they come, and
sleeps until an insert wakes it when none came for a while. What the broker does not take
waits in lanes, and is tried again beside the others.
"""

import logging
import time
from collections.abc import Sequence
from types import MappingProxyType

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from eventbus import tls
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.publisher import ConfirmingPublisher, Publisher
from eventbus.outbox.aside import Aside
from eventbus.outbox.batches import Batch, Batches
from eventbus.outbox.claim_start import Start
from eventbus.outbox.claims import Claim, Unsent
from eventbus.outbox.lanes import Lanes
from eventbus.outbox.outcomes import Outcomes
from eventbus.outbox.table import relay_state
from eventbus.settings.broker import broker_url
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: Seconds at most for which events gather after a batch that was not full. Measured on two
#: processors: without, 99 orders a second, and 34 ms to a decision at 20 a second; with 0.02, 140
#: and 40 ms; with 0.05, 145 and 61 ms.
LONGEST_GATHERING = 0.02

#: Events that are claimed, sent and marked together. While they come faster than they leave, two
#: such batches are on their way.
BATCH = 500

#: Seconds until a relay looks again whether another one still drains the outbox.
HELD_DELAY = 0.025

#: Seconds to wait for the confirms of what went aside, while nothing else is to be done.
ASIDE_WAIT = 0.02

#: Seconds for which a drain that ends waits for the confirms of what went aside.
LAST_WAIT = 0.1

#: PostgreSQL's parameters for the relay's sessions.
SESSION = MappingProxyType(
    {
        # What a crash of the database undoes is sent again, as after a crash of the relay: to wait
        # for the disk would win nothing.
        "synchronous_commit": "off",
        # A relay that hangs, or whose machine has gone, must not keep the lock for ever.
        "idle_session_timeout": "60s",
        # Every statement reads a range of an index, in its order: whatever the last ANALYZE has
        # seen. If it has seen no unsent event, each claim would read all of them, and sort them.
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_sort": "off",
        "jit": "off",
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
        self._batches = Batches(publisher, sent_as)
        #: Events that the next batch may have.
        self._limit = BATCH
        #: What is on its way, the oldest first: two batches at most.
        self._on_way: list[Batch] = []
        self._lanes = Lanes()
        self._outcomes = Outcomes(self._lanes)
        self._aside = Aside(self._batches, self._lanes, self._outcomes)
        self._start = Start()

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
            exchange=service.bus.events.name,
            heartbeat=settings.broker_heartbeat,
        )
        return cls(db.sessions(db.engine(settings, session=SESSION)), publisher, sent_as=sent_as)

    def drain(self, until: float) -> None:
        """Publish what is in the outbox, and what comes in, until `time.monotonic()` is `until`."""
        try:
            self._publisher.heartbeat()
            self._record_state()
            # Without the lock: another relay may have a way to the broker.
            time.sleep(max(0.0, min(self._outcomes.wait, until - time.monotonic())))
            with Unsent.of(self._sessions, self._start) as unsent:
                while time.monotonic() < until and not unsent.hold():
                    time.sleep(HELD_DELAY)
                if time.monotonic() < until:
                    self._drain(unsent, until)
        except DBAPIError as error:
            # The next drain tries again; what was confirmed but not marked is sent twice.
            log.error("the database failed the relay", extra={"reason": str(error.orig).strip()})
            self._start.reset()

    def relay_once(self) -> int:
        """Publish one batch and mark what the broker confirmed; returns how many it confirmed."""
        with Unsent.of(self._sessions) as unsent:
            if unsent.hold():
                self._send(unsent)
            return self._settle(unsent, keep=0)

    def _drain(self, unsent: Unsent, until: float) -> None:
        now = time.monotonic()
        for name, seconds in unsent.lanes().items():
            self._lanes.open(name, now + seconds)
        while now < until and not self._outcomes.wait and self._is_ready(until):
            self._aside.advance(unsent)
            claim = self._send(unsent)
            # While the broker works on a full batch, the next one is claimed and sent.
            is_ahead = bool(claim.rows) and claim.read == BATCH
            confirmed = self._settle(unsent, keep=int(is_ahead))
            if claim.read == confirmed == 1 and not self._lanes:
                # On a quiet system the mark and the look for the next event are one round trip.
                unsent.sleep(max(0.0, until - time.monotonic()), naps=False)
            elif claim.rows and confirmed and not is_ahead:
                self._gather(confirmed, now, until)
            elif not (is_ahead or confirmed or claim.held or self._outcomes.wait):
                self._rest(unsent, until)
            now = time.monotonic()
        self._settle(unsent, keep=0)
        self._aside.settle(unsent, time.monotonic() + LAST_WAIT)

    def _is_ready(self, until: float) -> bool:
        if self._publisher.ready(until):
            return True
        self._outcomes.note("the broker is short of memory or disk")
        return False

    def _send(self, unsent: Unsent) -> Claim:
        began = time.monotonic()
        on_way = [row.id for batch in self._on_way for row in batch.rows]
        claim = unsent.claim(self._limit, but=on_way, aside=self._lanes)
        self._lanes.extend(claim.held, began)
        if claim.rows:
            self._on_way.append(self._batches.send(claim.rows, began))
        elif not on_way and not self._lanes:
            self._outcomes.note(None)
        return claim

    def _settle(self, unsent: Unsent, *, keep: int) -> int:
        # Nothing is marked before its confirm: a relay that dies in between sends again, and the
        # inboxes drop the second copy.
        confirmed = 0
        while len(self._on_way) > keep:
            report = self._batches.settle(self._on_way[0])
            if report is None:
                break
            confirmed += self._outcomes.record(unsent, self._on_way.pop(0), report)
            # The broker does not tell to which event it objects, and after an outage it may go
            # again: begin with one event, so that little is sent twice.
            self._limit = 1 if report.error else min(2 * self._limit, BATCH)
        return confirmed

    def _gather(self, sent: int, began: float, until: float) -> None:
        # An event that comes alone waits for nobody. When they come faster than batches leave,
        # fewer and larger ones cost less, here and in all who consume them.
        if sent < self._limit:
            now = time.monotonic()
            worth = (sent - 1) * (now - began)
            time.sleep(max(0.0, min(worth, LONGEST_GATHERING, until - now)))

    def _rest(self, unsent: Unsent, until: float) -> None:
        now = time.monotonic()
        if self._aside.is_on_its_way:
            unsent.write()
            self._aside.settle(unsent, min(until, now + ASIDE_WAIT))
        elif (lane := self._lanes.next()) is None:
            unsent.sleep(max(0.0, until - now))
        elif lane.due > now:
            unsent.sleep(max(0.0, min(until, lane.due) - now))

    def _record_state(self) -> None:
        state = {
            "passed_at": func.clock_timestamp(),
            "broker_error": self._outcomes.broker_error,
        }
        with transaction(self._sessions) as session:
            row = insert(relay_state).values(id=1, **state)
            session.execute(row.on_conflict_do_update(index_elements=["id"], set_=state))
