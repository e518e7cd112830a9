"""Recovery of the events that a service's queue has dropped, once the queue has room again.

The broker keeps a marker, a copy of the last dropped message, in the queue `<service>.overflow`.
Catch-up polls that queue, records the drop in the service's database, acknowledges the marker,
rereads the stream, and publishes the events that the inbox lacks to the service's own queue. No
event is missed, because:

- Every drop leaves a marker, either in an empty queue or in place of an older marker. A marker is
  acknowledged after the drop is recorded. A drop in between leaves a second marker, because the
  first is unacknowledged and cannot be replaced.
- Every dropped event is at or above `start_offset`. It entered the queue after the observation that
  set `settled_offset`: the queue was empty at that moment, and a message that a worker held at that
  moment was settled or returned before the next observation. A dropped copy entered the queue in a
  pass whose `start_offset` is still considered.
- Every dropped event is below `end_offset`. Reading starts `SETTLED` after the last drop. By then,
  the stream has confirmed the event, or its relay is about to send it again. A later drop leads to
  another pass.
- The position is stored after the confirms. A process that is killed in between publishes some
  copies again after its restart, and the inbox drops them.
- For an event that waits in the queue or in a retry tier, or that is parked, each pass publishes
  one more copy, which the inbox also drops.
- A pass that makes the queue overflow is repeated, with fewer copies at a time.

A message that returned from a retry tier is parked if it is dropped, because its event may be older
than any observation.
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
from eventbus.telemetry.privacy import described
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: The errors after which the loop continues with its next step.
_EXPECTED_ERRORS: tuple[type[Exception], ...] = (CopyRefused, *BROKER_ERRORS)

#: Seconds between two polls of the marker while no event is missing, or events cannot be copied.
PAUSE = 2.0

#: Maximum duration of one step, in seconds. A step waits for confirms, for the stream and for the
#: database, and each wait has its own limit.
LIMIT = 180.0


class CatchUp:
    """The recovery of the events that the queue of one service has dropped."""

    def __init__(self, service: Service, sessions: Sessions, connect: Connect) -> None:
        self._service = service
        self._sessions = sessions
        self._broker = CatchUpBroker(service, connect)
        self._problem: str | None = None
        self._limit = FillLimit()

    @classmethod
    def from_settings(cls, service: Service, settings: ServiceSettings) -> "CatchUp":
        """Return the catch-up of a process, which connects when it starts."""
        # The nodes of a cluster are tried in turn, one per attempt.
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
        """Return the loop that polls and copies, on its own thread."""
        return Loop("catch-up", self._run_steps, interval=PAUSE, limit=LIMIT)

    def _run_steps(self, until: float) -> None:
        try:
            while self.step() and time.monotonic() < until:
                pass
            self._log_problem(None)
        except BrokerBlocks as block:
            self._log_problem(str(block))
        except DBAPIError as error:
            self._fail(f"database: {described(error)}")
        except _EXPECTED_ERRORS as error:
            self._fail(described(error))
        except Exception:
            # The channel is closed, because an open channel would hold a marker that is not
            # recorded yet.
            self.close()
            raise

    def step(self) -> bool:
        """Poll the marker once, and copy a batch if events are missing.

        Returns whether another call should follow immediately. Raises the errors of the broker and
        the database, after which the next step continues from the record.
        """
        depth = self._broker.depth()
        if marker := self._broker.marker():
            with overflow.changed(self._sessions) as record:
                if record:
                    _, state, now = record
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
        """Close the connections. The next step opens them again."""
        self._broker.close()

    def _observe(self) -> None:
        # The end is read before the queue is observed, so all messages below the end have entered
        # the queue.
        end = self._broker.end()
        if self._broker.is_empty():
            with overflow.changed(self._sessions) as record:
                if record:
                    _, state, now = record
                    state.observe_empty(end, now)

    def _copy_some(self, depth: int) -> bool:
        with overflow.changed(self._sessions, skip_locked=True) as record:
            if record is None:
                return False
            session, state, now = record
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
        offset = state.position or 0
        reading = self._broker.reading
        if reading is None or reading.position != offset:
            # The offset differs at the start, after an error, and if another process has continued
            # the pass.
            self._check_stream(state, offset)
            reading = self._broker.read_from(state.position or 0)
        return reading

    def _check_stream(self, state: Overflow, offset: int) -> None:
        oldest, end = self._broker.oldest(), self._broker.end()
        if end < offset:
            # The stream ends below the recorded offset: the broker's data was lost.
            log.error("catch-up stream replaced", extra={"offset": offset})
            state.position, state.end_offset = 0, end
        elif oldest is not None and 0 < offset < oldest:
            fields = {"first_offset": offset, "last_offset": oldest - 1}
            log.error("unread events removed from the stream", extra=fields)
            state.gaps += 1

    def _finish(self, state: Overflow) -> None:
        self._broker.end_reading()
        if state.requested_at is None:
            self._limit = FillLimit()
            log.info("catch-up finished", extra={"copied": state.copied})

    def _fail(self, problem: str) -> None:
        self._log_problem(problem)
        self.close()

    def _log_problem(self, problem: str | None) -> None:
        # One line at the first failure and one at the recovery, not one for each attempt.
        if problem != self._problem:
            if problem:
                # This is a warning, as for any lost connection, because the step is repeated after
                # `PAUSE`.
                log.warning("catch-up interrupted", extra={"reason": problem})
            else:
                log.info("catch-up resumed")
        self._problem = problem
