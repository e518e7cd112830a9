"""Beat's scheduler: a monotonic clock, no busy waiting, and one connection at a time."""

from datetime import UTC, datetime, timedelta
from functools import cached_property
from time import monotonic
from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from scheduler.ticks import Ticks

_START = datetime(2000, 1, 1, tzinfo=UTC)


def uptime() -> datetime:
    """Return a time that is independent of wall-clock steps, and valid only for differences."""
    return _START + timedelta(seconds=monotonic())


class PunctualScheduler(Scheduler):
    """A scheduler that sleeps until an entry is due, and drops ticks that cannot be sent promptly.

    Celery's scheduler wakes ten milliseconds early and polls without a pause until the entry is
    due. It also waits for the broker, and opens another connection for each unconfirmed tick.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Celery's own producer would connect, and would wait until it succeeds.
        self.__dict__["producer"] = None

    def adjust(self, n: float, drift: float = 0.0) -> float:
        """Return the seconds to sleep for an entry that is due in `n` seconds."""
        return n + drift if n else n

    def apply_entry(self, entry: ScheduleEntry, **_: object) -> None:
        """Send a tick, or drop it; never raise because of the broker's state."""
        self.ticks.send(entry.task)

    @cached_property
    def ticks(self) -> Ticks:
        """The publisher of ticks, which connects at the first tick."""
        return Ticks.of(self.app, heartbeat=self.app.settings.broker_heartbeat)

    def close(self, **_: Any) -> None:
        """Close the connection without notifying the broker, which may not respond."""
        if "ticks" in vars(self):
            self.ticks.close()
