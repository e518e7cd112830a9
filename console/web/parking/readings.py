"""The failure groups of small parking lots, read once for pages that are opened together."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from console.parking.memory import Listing
from console.web.queries import Queries


@dataclass(eq=False)
class Readings:
    """The readings in progress: two at a time would hide messages from each other."""

    queries: Queries
    _running: dict[str, "Future[Listing]"] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, service: str, read: Callable[[], Listing]) -> "Future[Listing]":
        """Return the groups of a service; starts a reading with `read` if none is in progress."""
        result: Future[Listing] = Future()
        # A page that no longer waits must not cancel the reading for other pages.
        result.set_running_or_notify_cancel()
        self._run(service, read).add_done_callback(lambda done: _pass_on(done, result))
        return result

    def _run(self, service: str, read: Callable[[], Listing]) -> "Future[Listing]":
        with self._lock:
            if running := self._running.get(service):
                return running
            running = self._running[service] = self.queries.start(read)
        # The lock is not held, because `_finish` acquires it, and runs immediately if the reading
        # has ended.
        running.add_done_callback(lambda _: self._finish(service))
        return running

    def _finish(self, service: str) -> None:
        with self._lock:
            del self._running[service]


def _pass_on(done: "Future[Listing]", result: "Future[Listing]") -> None:
    if error := done.exception():
        result.set_exception(error)
    else:
        result.set_result(done.result())
