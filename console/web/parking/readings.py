"""The failure groups of large parking lots, which are read once for all viewers.

The duration of a reading increases with the number of parked messages.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from console.parking.memory import Listing
from console.web.queries import Queries

#: Number of messages in a parking lot beyond which a reading is kept. Smaller parking lots are read
#: again for each page.
LARGE = 500

#: The age at which a page starts a new reading, and the maximum age of a reading that is shown.
RENEWED, KEPT = timedelta(seconds=15), timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The groups of a service; `at` is the time of an earlier reading, None for a new one."""

    listing: Listing
    at: datetime | None = None


@dataclass(eq=False)
class Readings:
    """The latest reading of each large parking lot, and the readings in progress."""

    queries: Queries
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _running: dict[str, "Future[Listing]"] = field(default_factory=dict)
    _latest: dict[str, tuple[datetime, Listing]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, service: str, read: Callable[[], Listing]) -> "Future[Reading]":
        """Return the groups of a service, from the latest reading of a large parking lot.

        Starts a reading with `read` if no reading is in progress or recent, because two readings at
        the same time would hide messages from each other.
        """
        result: Future[Reading] = Future()
        # A page that no longer waits must not cancel the reading for other pages.
        result.set_running_or_notify_cancel()
        if latest := self._recent(service, KEPT):
            result.set_result(Reading(at=latest[0], listing=latest[1]))
        if not self._recent(service, RENEWED):
            running = self._run(service, read)
            if not latest:
                running.add_done_callback(lambda done: _pass_on(done, result))
        return result

    def _recent(self, service: str, age: timedelta) -> tuple[datetime, Listing] | None:
        latest = self._latest.get(service)
        return latest if latest and self.now() - latest[0] < age else None

    def _run(self, service: str, read: Callable[[], Listing]) -> "Future[Listing]":
        with self._lock:
            if running := self._running.get(service):
                return running
            running = self._running[service] = self.queries.start(read)
        # The lock is not held, because `_finish` acquires it, and runs immediately if the reading
        # has ended.
        running.add_done_callback(lambda done: self._finish(service, done))
        return running

    def _finish(self, service: str, done: "Future[Listing]") -> None:
        with self._lock:
            del self._running[service]
            # After an error, the next page shows the error rather than old groups.
            self._latest.pop(service, None)
            if not done.exception():
                listing = done.result()
                if sum(known.group.count for known in listing.groups) > LARGE:
                    self._latest[service] = (self.now(), listing)


def _pass_on(done: "Future[Listing]", result: "Future[Reading]") -> None:
    if error := done.exception():
        result.set_exception(error)
    else:
        result.set_result(Reading(listing=done.result()))
