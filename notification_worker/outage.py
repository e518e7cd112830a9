"""An outage: of the mail server, or of the mailer's database."""

import logging
import random
import time
from threading import Lock

from notification_worker.domain import retry_delay

#: Seconds. A server that is back is noticed within this time.
LONGEST_PAUSE = 30.0

log = logging.getLogger(__name__)


class Outage:
    """Whether mails are paused, since when, and until when; it may be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._failures = 0
        self._since: float | None = None
        #: No mail is tried before this, by `time.monotonic()`.
        self.resume_at = 0.0

    def note(self, event: str, reason: str) -> None:
        """Pause: for longer after each failure in a row, and with one log line for all of them."""
        with self._lock:
            first, self._failures = not self._failures, self._failures + 1
            self._since = self._since or time.monotonic()
            pause = retry_delay(self._failures, jitter=random.random(), longest=LONGEST_PAUSE)  # noqa: S311
            self.resume_at = time.monotonic() + pause
        if first:
            log.error(event, extra={"reason": reason})

    def end(self) -> None:
        """Note that mails leave, or are refused one by one."""
        with self._lock:
            lasted, self._failures, self._since = self._failures, 0, None
        if lasted:
            log.info("mail delivery resumed")

    def seconds(self) -> float:
        """Return for how long mails have been paused; 0 if they are not."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since
