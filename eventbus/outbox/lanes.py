"""Lanes: groups of events that the broker currently rejects, retried with few probes.

A rejected message may still have reached the other queues of its type, so each attempt may deliver
another copy to every healthy consumer. A lane limits the number of these copies: single events are
sent as probes at growing intervals. After a success, the number of events in flight is always a
small share of the events confirmed since the last failure.
"""

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Seconds of backoff after the first failure, doubled by each later failure up to the limit. Jitter
#: subtracts up to a half, so events and relays do not retry at the same time.
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0

#: The lane of events whose order has an earlier event in another lane. They are released when that
#: event is sent.
BEHIND = "(earlier event)"

#: The lane of events that fail individually. Each is retried alone when it is due.
REPAIR = "(repair)"

#: Number of confirms required for each additional event in flight. With this number, a failure
#: creates copies of at most 2.5% of the events delivered before it.
_CONFIRMS_PER_EVENT = 40

#: Seconds between two scans of `REPAIR`, so that at most 20 of its events are retried per second.
REPAIR_INTERVAL = 0.05

#: Seconds without a failure after which an empty lane is closed, even if it has passed few events.
_QUIET = 60.0


def delay(failures: int, longest: float | None = None) -> float:
    """Return the backoff in seconds after `failures` consecutive failures, with jitter."""
    limit = LONGEST_DELAY if longest is None else longest
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return min(limit, FIRST_DELAY * 2.0 ** min(failures - 1, 16)) * jitter


@dataclass
class Lane:
    """A lane, named by an event type or `REPAIR`. All times are `time.monotonic()` values."""

    name: str
    #: Time from which its next event may be tried.
    due: float
    #: Number of failures, minus those that were offset by many confirms.
    failures: int = 0
    #: Number of events confirmed since the last failure.
    confirmed: int = 0
    failed_at: float = 0.0

    @property
    def window(self) -> int:
        """The number of events that may be in flight."""
        return 1 if self.name == REPAIR else 1 + self.confirmed // _CONFIRMS_PER_EVENT

    def fail(self, now: float) -> None:
        """Back off, for longer after each failure, unless many events were confirmed before it."""
        is_offset = self.confirmed >= _CONFIRMS_PER_EVENT
        self.failures = max(1, self.failures - 1 if is_offset else self.failures + 1)
        self.confirmed, self.failed_at = 0, now
        self.due = now + delay(self.failures)

    def is_over(self, now: float) -> bool:
        """Return whether the lane, which is empty, may be closed."""
        return self.confirmed >= _CONFIRMS_PER_EVENT or now - self.failed_at > _QUIET


class Lanes:
    """The open lanes of a relay."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._lanes

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def next(self) -> Lane | None:
        """Return the lane with the earliest due time."""
        return min(self._lanes.values(), key=lambda lane: lane.due, default=None)

    def open(self, name: str, due: float) -> None:
        """Open a lane for events of this type, unless it is open. It is first tried at `due`."""
        if name not in self._lanes:
            self._lanes[name] = Lane(name, due, failed_at=time.monotonic())
            metrics.LANE_OPEN.labels(name).set(1)

    def close(self, name: str) -> None:
        """Close a lane, so later events of its type are published directly."""
        if self._lanes.pop(name, None):
            metrics.LANE_OPEN.labels(name).set(0)
            log.info("lane closed", extra={"type": name})

    def extend(self, names: Iterable[str], now: float) -> None:
        """Record new events in these lanes. Recovered lanes continue immediately."""
        for name in names:
            lane = self._lanes[name]
            if lane.confirmed:
                lane.due = min(lane.due, now)

    def fail(self, names: Iterable[str], now: float) -> list[str]:
        """Record a failure in each of these lanes, and return the lanes that were opened for it."""
        names = list(names)
        opened = [name for name in names if name not in self]
        for name in names:
            self.open(name, now)
            self._lanes[name].fail(now)
        return opened

    def object(self, lane: Lane, now: float, *, is_alone: bool) -> None:
        """Record that the broker objected to a batch of a lane.

        After a batch of several events, each is retried alone. If a single event fails first, or
        directly after a failure, the broker objects to the whole type.
        """
        if is_alone and lane.confirmed == 0 and lane.name != REPAIR:
            lane.fail(now)
        lane.confirmed = 0

    def confirm(self, lane: Lane, events: int, now: float) -> None:
        """Record that events of a lane were confirmed.

        After a failure, this means that its queue has room again. All other lanes are tried
        immediately, because some may share that queue.
        """
        if lane.confirmed == 0:
            for other in self._lanes.values():
                other.due = min(other.due, now)
        lane.confirmed += events
        if lane.name != REPAIR:
            lane.due = now
