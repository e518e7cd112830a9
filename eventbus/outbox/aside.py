"""The events of the lanes on their way: one batch at a time, beside those that never failed."""

import time

from eventbus.outbox.batches import Batch, Batches
from eventbus.outbox.claims import Rows, Unsent
from eventbus.outbox.lanes import REPAIR, REPAIR_INTERVAL, Lane, Lanes
from eventbus.outbox.outcomes import Outcomes

#: Events in flight at most.
_LIMIT = 500

#: Events of the repair lane that are looked at for one that is due.
_REPAIR_LOOK = 100

#: Seconds until an empty lane, or one of which nothing is due, is looked at again.
_IDLE = 1.0


class Aside:
    """Tries what waits in the lanes, without keeping anything else waiting."""

    def __init__(self, batches: Batches, lanes: Lanes, outcomes: Outcomes) -> None:
        self._batches = batches
        self._lanes = lanes
        self._outcomes = outcomes
        self._batch: Batch | None = None
        #: The last event of the repair lane that was looked at.
        self._repaired = 0

    @property
    def is_on_its_way(self) -> bool:
        """Whether a batch is unsettled."""
        return self._batch is not None

    def advance(self, unsent: Unsent) -> None:
        """Settle the batch that is on its way if its confirms are there, and send the next one."""
        now = time.monotonic()
        lane = self._lanes.next()
        if not self.settle(unsent, now) or lane is None or lane.due > now:
            return
        if rows := self._claim(unsent, lane, now):
            self._batch = self._batches.send(rows, now, lane)

    def settle(self, unsent: Unsent, until: float) -> bool:
        """Wait for what is on its way until `until`; returns whether nothing is left of it."""
        if self._batch is None:
            return True
        report = self._batches.settle(self._batch, until)
        if report is None:
            return False
        batch, self._batch = self._batch, None
        self._outcomes.record(unsent, batch, report)
        return True

    def _claim(self, unsent: Unsent, lane: Lane, now: float) -> Rows:
        if lane.name == REPAIR:
            return self._claim_repair(unsent, lane, now)
        rows = unsent.claim_lane(lane.name, min(lane.window, _LIMIT))
        if not rows:
            if lane.is_over(now):
                self._lanes.close(lane.name)
            lane.due = now + _IDLE
        return rows

    def _claim_repair(self, unsent: Unsent, lane: Lane, now: float) -> Rows:
        found = unsent.look_for_due(REPAIR, self._repaired, _REPAIR_LOOK)
        due = next((row.id for row in found if row.is_due), None)
        is_end = due is None and len(found) < _REPAIR_LOOK
        if not found and self._repaired == 0:
            self._lanes.close(REPAIR)
        self._repaired = 0 if is_end else due or found[-1].id
        lane.due = now + (_IDLE if is_end else REPAIR_INTERVAL)
        return unsent.claim_one(due) if due else []
