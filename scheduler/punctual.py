"""Beat's scheduler: ticks by a monotonic clock, without spinning, over one connection at a time."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from time import monotonic
from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from scheduler.ticks import Ticks

_START = datetime(2000, 1, 1, tzinfo=UTC)


def uptime() -> datetime:
    """Return a time that no step of the wall clock changes: for differences alone."""
    return _START + timedelta(seconds=monotonic())


class PunctualScheduler(Scheduler):
    """Sleeps until an entry is due, and drops each tick that the broker does not take at once.

    Celery's own wakes ten milliseconds early and then asks, without a pause, until it is time; it
    also waits for the broker, and opens another connection for each tick that is not confirmed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # What Celery would make of it connects, and waits until that succeeds.
        self.__dict__["producer"] = None

    def adjust(self, n: float, drift: float = 0.0) -> float:
        """Return how long to sleep for an entry that is due in so many seconds."""
        return n + drift if n else n

    def apply_entry(self, entry: ScheduleEntry, **_: object) -> None:
        """Send a tick, or drop it; never raises for the state of the broker."""
        self.ticks.send(entry.task)

    @cached_property
    def ticks(self) -> Ticks:
        """What sends the ticks; it connects at the first one."""
        return Ticks.of(self.app, heartbeat=self.app.settings.broker_heartbeat)

    def close(self, **_: Any) -> None:
        """Close the connection, without a word to a broker that may not listen."""
        if "ticks" in vars(self):
            self.ticks.close()
