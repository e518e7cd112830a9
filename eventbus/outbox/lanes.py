"""Lanes: what the broker does not take at present waits aside, and is tried again with care.

A refused message may still have reached the other queues of its type, so each attempt costs every
healthy consumer a copy. A lane bounds the copies: one event probes it at growing intervals, and the
events that follow are never more than a small share of those confirmed since the last failure.
"""

import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass

from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Seconds after the first failure, doubled by each further one up to the limit. A random part of at
#: most a half is taken off, so that events and relays do not come back together.
FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0

#: The lane of events whose order has an earlier event in a lane: released when that one is sent.
BEHIND = "(earlier event)"

#: The lane of events that fail by themselves: each is tried alone, at a time of its own.
REPAIR = "(repair)"

#: Confirms for one more event in flight: the copies that a failure makes are 2.5 % of the events
#: that were delivered before it.
_CONFIRMS_PER_EVENT = 40

#: Seconds between two looks at `REPAIR`: at most 20 of its events are tried in a second.
REPAIR_INTERVAL = 0.05

#: Seconds without a failure after which an empty lane is closed, however few events it has passed.
_QUIET = 60.0


def delay(failures: int, longest: float | None = None) -> float:
    """Return the seconds to wait after so many failures in a row, with jitter."""
    limit = LONGEST_DELAY if longest is None else longest
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return min(limit, FIRST_DELAY * 2.0 ** min(failures - 1, 16)) * jitter


@dataclass
class Lane:
    """One lane, by its name: an event type or `REPAIR`. All times are `time.monotonic()`."""

    name: str
    #: When its next event may be tried.
    due: float
    #: Failures, less those that many confirms have made up for.
    failures: int = 0
    #: Events confirmed since the last failure.
    confirmed: int = 0
    failed_at: float = 0.0

    @property
    def window(self) -> int:
        """The number of events that may be in flight."""
        return 1 if self.name == REPAIR else 1 + self.confirmed // _CONFIRMS_PER_EVENT

    def fail(self, now: float) -> None:
        """Wait before the next attempt: longer each time, unless many events passed before it."""
        paid = self.confirmed >= _CONFIRMS_PER_EVENT
        self.failures = max(1, self.failures - 1 if paid else self.failures + 1)
        self.confirmed, self.failed_at = 0, now
        self.due = now + delay(self.failures)

    def is_over(self, now: float) -> bool:
        """Tell whether the lane, found empty, may be closed."""
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
        """Return the lane that is due first."""
        return min(self._lanes.values(), key=lambda lane: lane.due, default=None)

    def open(self, name: str, due: float) -> None:
        """Let events of this type wait; a new lane is tried at `due` first."""
        if name not in self._lanes:
            self._lanes[name] = Lane(name, due, failed_at=time.monotonic())
            metrics.LANE_OPEN.labels(name).set(1)

    def close(self, name: str) -> None:
        """Let later events of this type go out at once."""
        if self._lanes.pop(name, None):
            metrics.LANE_OPEN.labels(name).set(0)
            log.info("publishing resumed", extra={"type": name})

    def extend(self, names: Iterable[str], now: float) -> None:
        """Note new events in these lanes: those that are not in trouble any more go on at once."""
        for name in names:
            lane = self._lanes[name]
            if lane.confirmed:
                lane.due = min(lane.due, now)

    def fail(self, names: Iterable[str], now: float) -> list[str]:
        """Note a failure in each of these lanes; returns those that were opened for it."""
        names = list(names)
        opened = [name for name in names if name not in self]
        for name in names:
            self.open(name, now)
            self._lanes[name].fail(now)
        return opened

    def object(self, lane: Lane, now: float, *, is_alone: bool) -> None:
        """Note that the broker objected to a batch of a lane.

        Of several events, each is tried alone next. One alone that came right after a failure, or
        first, says that its whole type is objected to.
        """
        if is_alone and lane.confirmed == 0 and lane.name != REPAIR:
            lane.fail(now)
        lane.confirmed = 0

    def confirm(self, lane: Lane, events: int, now: float) -> None:
        """Note that events of a lane were confirmed.

        After a failure its queue has room again. The other lanes, of which some share that queue,
        are tried at once.
        """
        if lane.confirmed == 0:
            for other in self._lanes.values():
                other.due = min(other.due, now)
        lane.confirmed += events
        if lane.name != REPAIR:
            lane.due = now
