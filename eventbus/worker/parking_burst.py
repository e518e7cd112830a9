"""Parking bursts: many events parked in a short time, which indicates a broken handler."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds in which results are counted together.
WINDOW = 60


@dataclass(slots=True)
class _Second:
    at: int
    parked: int = 0
    handled: int = 0


class ParkingBurst:
    """The results of the last minute: the numbers of events that were parked and of other events.

    It has one entry for each second, regardless of the number of events.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit` is the number of parked events that make a burst; 0 disables it."""
        self._limit = limit
        self._clock = clock
        self._seconds: deque[_Second] = deque()
        self._parked = 0
        self._handled = 0

    def handled(self, count: int) -> None:
        """Count events that were handled, or were duplicates."""
        self._second().handled += count
        self._handled += count

    def parked(self, origin: str) -> str | None:
        """Count an event that was parked because its handler failed, as described by `origin`.

        Return the reason for a pause, and count from zero, if at least `limit` events and half of
        all events of the window were parked; otherwise return None.
        """
        self._second().parked += 1
        self._parked += 1
        if not 0 < self._limit <= self._parked or self._parked < self._handled:
            return None
        total = self._parked + self._handled
        reason = f"{self._parked} of {total} events parked within a minute: {origin}"
        # After the pause, events that were parked before it must not cause another pause.
        self._seconds.clear()
        self._parked = self._handled = 0
        return reason

    def _second(self) -> _Second:
        now = int(self._clock())
        while self._seconds and self._seconds[0].at <= now - WINDOW:
            old = self._seconds.popleft()
            self._parked -= old.parked
            self._handled -= old.handled
        if not self._seconds or self._seconds[-1].at != now:
            self._seconds.append(_Second(now))
        return self._seconds[-1]
