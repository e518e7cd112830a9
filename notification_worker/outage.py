"""An outage of the mail server or of the mailer's database."""

import logging
import random
import time
from threading import Lock

from notification_worker.domain import retry_delay

#: The longest pause in seconds. A server that is available again is detected within this time.
LONGEST_PAUSE = 30.0

log = logging.getLogger(__name__)


class Outage:
    """The thread-safe pause of sending, from its start to its end."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._since: float | None = None
        #: The time (`time.monotonic()`) before which no email is attempted.
        self.resume_at = 0.0

    def note(self, event: str, reason: str) -> None:
        """Pause, longer after each consecutive failure. The first failure is logged as `event`."""
        with self._lock:
            first, self._failures = not self._failures, self._failures + 1
            self._since = self._since or time.monotonic()
            pause = retry_delay(self._failures, jitter=random.random(), longest=LONGEST_PAUSE)  # noqa: S311
            self.resume_at = time.monotonic() + pause
        if first:
            log.error(event, extra={"reason": reason})

    def end(self) -> None:
        """End the pause, because emails are accepted, or rejected individually."""
        with self._lock:
            lasted, self._failures, self._since = self._failures, 0, None
        if lasted:
            log.info("mail delivery resumed")

    def seconds(self) -> float:
        """Return the seconds since the start of the pause, or 0 without a pause."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since
