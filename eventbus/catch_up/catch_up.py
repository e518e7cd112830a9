"""Takes what a service's queue has dropped from the stream, once the queue has room again.

The broker keeps a marker, a copy of the last dropped message, in the queue `<service>.overflow`.
This process polls it, records the drop in the service's database, acknowledges the marker, reads
the stream again, and publishes the events that the inbox does not have to the service's own queue.
Why no event is missed:

- Every drop leaves a marker, at once or in place of an older one. A marker is acknowledged after
  the drop is recorded. A drop in between leaves another marker, as the first is not ready any more.
- Every dropped event is at or above `start_offset`. It entered the queue after the observation
  that `settled_offset` is from: the queue was empty then, and a message that a worker kept at that
  moment has been settled or returned before the next observation. A copy that is dropped entered
  the queue from a reading whose `start_offset` still counts.
- Every dropped event is below `end_offset`. Reading starts `SETTLED` after the last drop, when the
  event has been confirmed by the stream or its relay is about to send it again. A drop after that
  leads to another reading.
- The position is stored after the confirms. A process that is killed in between publishes some
  copies again, and the inbox drops them.
- An event that waits in the queue or in a retry tier, or that is parked, gets one more copy from
  each reading, for the same reason without effect.
- A reading that makes the queue overflow is repeated, with fewer copies at a time.

A message that came back from a retry tier is parked when it is dropped: its event may be older than
any observation.
"""

import logging
import time
from datetime import datetime
from itertools import cycle

from sqlalchemy.exc import DBAPIError

from eventbus import tls
from eventbus.catch_up import overflow
from eventbus.catch_up.broker import BROKER_ERRORS, CatchUpBroker, Connect
from eventbus.catch_up.copies import BrokerBlocks, CopyRefused
from eventbus.catch_up.fill_limit import FillLimit
from eventbus.catch_up.overflow import Overflow
from eventbus.catch_up.rereading import Rereading
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.loop import Loop
from eventbus.messaging.amqps import Connection
from eventbus.settings.broker import broker_url
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: What the loop expects to fail.
_ERRORS: tuple[type[Exception], ...] = (CopyRefused, *BROKER_ERRORS)

#: Seconds between two polls of the marker while nothing is missing, or nothing can be done.
PAUSE = 2.0

#: Seconds that one step may take: it waits for confirms, for the stream and for the database, each
#: within a limit of its own.
LIMIT = 180.0


class CatchUp:
    """Brings back what the queue of one service has dropped."""

    def __init__(self, service: Service, sessions: Sessions, connect: Connect) -> None:
        self._service = service
        self._sessions = sessions
        self._broker = CatchUpBroker(service, connect)
        self._problem: str | None = None
        self._limit = FillLimit()

    @classmethod
    def from_settings(cls, service: Service, settings: ServiceSettings) -> "CatchUp":
        """Return the one of a process; it connects when it starts."""
        # Of several nodes each attempt is at the next one.
        nodes = cycle(broker_url(settings).split(";"))

        def connect(purpose: str) -> Connection:
            return Connection(
                next(nodes),
                ssl=tls.broker_options(settings),
                heartbeat=settings.broker_heartbeat,
                connect_timeout=5,
                transport_options={
                    "client_properties": {"connection_name": f"{service.name} catch-up {purpose}"},
                },
            )

        return cls(service, db.sessions(db.engine(settings, session=db.BY_KEY)), connect)

    def loop(self) -> Loop:
        """Return the loop that polls and copies; no event and no mail waits for it."""
        return Loop("catch-up", self._turn, interval=PAUSE, limit=LIMIT)

    def _turn(self, until: float) -> None:
        try:
            while self.step() and time.monotonic() < until:
                pass
            self._note(None)
        except BrokerBlocks as block:
            self._note(str(block))
        except DBAPIError as error:
            self._fail(f"database: {str(error.orig).strip()}")
        except _ERRORS as error:
            self._fail(f"{type(error).__name__}: {error}")

    def step(self) -> bool:
        """Poll the marker once, and copy a batch if events are missing.

        Returns whether another call is worth it at once. Raises the errors of the broker and the
        database, after which everything goes on from the record.
        """
        depth = self._broker.depth()
        if marker := self._broker.marker():
            with overflow.changed(self._sessions) as found:
                if found:
                    _, state, now = found
                    state.request(now)
            self._limit.dropped(depth)
            self._broker.acknowledge(marker)
        with transaction(self._sessions) as session:
            state, now = overflow.read(session)
        if state.requested_at is None:
            if depth == 0 and state.needs_observation(now):
                self._observe()
            return False
        if not state.is_ready(now):
            return False
        if self._broker.is_blocked:
            raise BrokerBlocks
        if depth < self._limit.messages:
            return self._copy_some(depth)
        self._limit.waited(depth)
        return False

    def close(self) -> None:
        """Close the connections; the next step opens them again."""
        self._broker.close()

    def _observe(self) -> None:
        # In this order: what is below the end was in the queue before it was seen empty.
        end = self._broker.end()
        if self._broker.is_empty():
            with overflow.changed(self._sessions) as found:
                if found:
                    _, state, now = found
                    state.observe_empty(end, now)

    def _copy_some(self, depth: int) -> bool:
        with overflow.changed(self._sessions, skip_locked=True) as found:
            if found is None:
                return False
            session, state, now = found
            if state.position is None:
                self._begin(state, now)
            reading = self._reading(state)
            reading.fill(session)
            messages = reading.take(self._limit.messages - depth)
            self._broker.copies.put(messages)
            state.advance(reading.position, len(messages), now)
            if state.position is None:
                self._finish(state)
        self._limit.filled()
        return True

    def _begin(self, state: Overflow, now: datetime) -> None:
        self._broker.end_reading()
        state.begin(self._broker.end(), now)
        log.info(
            "catch-up started",
            extra={"first_offset": state.position, "end_offset": state.end_offset},
        )

    def _reading(self, state: Overflow) -> Rereading:
        at = state.position or 0
        reading = self._broker.reading
        if reading is None or reading.position != at:
            # At the start, after an error, or when another process has gone on meanwhile.
            self._check_stream(state, at)
            reading = self._broker.read_from(state.position or 0)
        return reading

    def _check_stream(self, state: Overflow, at: int) -> None:
        oldest, end = self._broker.oldest(), self._broker.end()
        if end < at:
            # The broker's data was lost.
            log.error("stream replaced", extra={"offset": at})
            state.position, state.end_offset = 0, end
        elif oldest is not None and 0 < at < oldest:
            about = {"first_offset": at, "last_offset": oldest - 1}
            log.error("events left the stream before they were read", extra=about)
            state.gaps += 1

    def _finish(self, state: Overflow) -> None:
        self._broker.end_reading()
        if state.requested_at is None:
            self._limit = FillLimit()
            log.info("catch-up finished", extra={"copied": state.copied})

    def _fail(self, problem: str) -> None:
        self._note(problem)
        self.close()

    def _note(self, problem: str | None) -> None:
        # One line when it fails and one when it goes on, not one for each attempt.
        if problem != self._problem:
            if problem:
                # It is repeated `PAUSE` later: a warning, as with any lost connection.
                log.warning("catch-up interrupted", extra={"reason": problem})
            else:
                log.info("catch-up resumed")
        self._problem = problem
