"""Changes of single messages, which continue in the background if they take long.

A change reads the entire parking lot, because other messages of the same event may be anywhere in
it.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from sqlalchemy.exc import DBAPIError

from console.errors import ActionError, problem
from console.parking.index import rows, turn
from console.settings import ConsoleSettings
from console.web.action import Done
from eventbus.database.db import transaction
from eventbus.errors import ExpectedError
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

#: Seconds for which a request waits for a change, which is sufficient for a parking lot of
#: thousands of messages.
PATIENCE = 2.0

#: Maximum number of changes of this process that are listed, and that run at the same time.
LISTED = RUNNING = 20

#: A function that is called with the kind and the text of a result that its request has not shown.
Late = Callable[[str, str], None]


@dataclass(kw_only=True, eq=False)
class Change:
    """A change whose request did not wait for it. `result` is empty until the change has ended."""

    service: str
    event_id: str
    what: str
    by: str
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    kind: str = "begun"
    result: str = ""
    is_late: bool = False


@dataclass(eq=False)
class Changes:
    """The changes of this process. If it ends, the history of each message shows its changes."""

    settings: ConsoleSettings
    _running: set[Change] = field(default_factory=set)
    _late: deque[Change] = field(default_factory=lambda: deque(maxlen=LISTED))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def late(self) -> list[Change]:
        """The latest changes for which no request waited, newest first."""
        with self._lock:
            return list(reversed(self._late))

    def make(
        self, service: Service, change: Change, digest: str, action: Callable[[], str], late: Late
    ) -> str | Done:
        """Run an action on a message in the turn of a command, and return its result.

        The message then leaves the index. If it takes longer than `PATIENCE`, it continues, and its
        result is passed to `late`. Raises the error of an action that fails earlier, and
        `ActionError` if `RUNNING` changes are running.
        """
        with self._lock:
            if len(self._running) >= RUNNING:
                raise ActionError(f"{RUNNING} changes are running: wait until one has ended")
            self._running.add(change)
        ended: Future[str] = Future()

        def work() -> None:
            try:
                result = self._act(service, change.event_id, digest, action)
            except Exception as error:
                is_late = self._end(change, partial(ended.set_exception, error))
                if is_late and not isinstance(error, ExpectedError | DBAPIError):
                    log.exception("change failed", extra={"service": service.name})
                kind, result = "wrong", problem(error)
            else:
                is_late = self._end(change, partial(ended.set_result, result))
                kind = "done"
            if is_late:
                # The result first, because the list must show it even if it cannot be recorded.
                change.kind, change.result = kind, result
                late(kind, result)

        threading.Thread(target=work, name=f"change-{service.name}", daemon=True).start()
        wait([ended], timeout=PATIENCE)
        with self._lock:
            if not ended.done():
                change.is_late = True
                self._late.append(change)
                text = f"{change.event_id}: the parking lot is being read; Parked shows the result"
                return Done(result=text, kind=change.kind)
        return ended.result()

    def _act(self, service: Service, event_id: str, digest: str, action: Callable[[], str]) -> str:
        with turn.of_command(self.settings, service.name) as own:
            result = action()
            if own:
                with transaction(own) as session:
                    rows.remove(session, service.name, [event_id], digest)
        return result

    def _end(self, change: Change, end: Callable[[], None]) -> bool:
        """End a change, and return whether its request no longer waits."""
        with self._lock:
            end()
            self._running.remove(change)
            return change.is_late
