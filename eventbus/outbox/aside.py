"""Retries of events in lanes, one batch at a time, apart from events that have never failed."""

import time

from eventbus.outbox.batches import Batch, Batches
from eventbus.outbox.claims import Claims, Rows
from eventbus.outbox.lanes import REPAIR, REPAIR_INTERVAL, Lane, Lanes
from eventbus.outbox.outcomes import Outcomes

#: Maximum number of events in flight.
_LIMIT = 500

#: Maximum number of events of the repair lane that one scan reads to find an event that is due.
_REPAIR_SCAN = 100

#: Seconds until the next poll of a lane without a due event.
_IDLE = 1.0


class Aside:
    """The retries of the events in the lanes, which do not delay other events."""

    def __init__(self, batches: Batches, lanes: Lanes, outcomes: Outcomes) -> None:
        self._batches = batches
        self._lanes = lanes
        self._outcomes = outcomes
        self._batch: Batch | None = None
        #: Id of the last event of the repair lane that was scanned.
        self._scanned_to = 0

    @property
    def is_on_its_way(self) -> bool:
        """Whether a batch is in flight."""
        return self._batch is not None

    def advance(self, claims: Claims) -> None:
        """Settle the batch in flight if its confirms have arrived, and send the next batch."""
        now = time.monotonic()
        lane = self._lanes.next()
        if not self.settle(claims, now) or lane is None or lane.due > now:
            return
        if rows := self._claim(claims, lane, now):
            self._batch = self._batches.send(rows, now, lane)

    def settle(self, claims: Claims, until: float) -> bool:
        """Wait for the batch in flight until `until`; return whether no batch is in flight."""
        if self._batch is None:
            return True
        report = self._batches.settle(self._batch, until)
        if report is None:
            return False
        batch, self._batch = self._batch, None
        self._outcomes.record(claims, batch, report)
        return True

    def _claim(self, claims: Claims, lane: Lane, now: float) -> Rows:
        if lane.name == REPAIR:
            return self._claim_repair(claims, lane, now)
        rows = claims.claim_lane(lane.name, min(lane.window, _LIMIT))
        if not rows:
            if lane.is_over(now):
                self._lanes.close(lane.name)
            lane.due = now + _IDLE
        return rows

    def _claim_repair(self, claims: Claims, lane: Lane, now: float) -> Rows:
        rows = claims.find_due(REPAIR, self._scanned_to, _REPAIR_SCAN)
        due_id = next((row.id for row in rows if row.is_due), None)
        is_end = due_id is None and len(rows) < _REPAIR_SCAN
        if not rows and self._scanned_to == 0:
            self._lanes.close(REPAIR)
        self._scanned_to = 0 if is_end else due_id or rows[-1].id
        lane.due = now + (_IDLE if is_end else REPAIR_INTERVAL)
        return claims.claim_one(due_id) if due_id else []
