"""The pause of consumption during an infrastructure outage, while a worker probes for recovery.

The probe is one of the held messages, the canary. If the canary is handled, or fails for a reason
other than the outage, consumption resumes. Until then, received messages are held unacknowledged
without counting an attempt, and other messages stay in the queue. A pause survives a reconnect to
the broker.
"""

import logging
import random
import time
from collections.abc import Callable

from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Seconds before the first canary, and the maximum seconds between two canaries. A worker detects
#: the end of an outage within that maximum, and one statement every few seconds does not burden a
#: recovering server.
FIRST_WAIT, LONGEST_WAIT = 1.0, 10.0

#: Number of different messages in a row that must be too slow, each handled alone, before the cause
#: is attributed to the infrastructure. Each message before the last is charged one attempt.
SLOW_IN_A_ROW = 3

#: Maximum seconds for which messages are held. After that, a reconnect returns them to their queue,
#: because the broker closes the channel of a consumer that holds a message for too long (30 minutes
#: by default).
HOLD_LIMIT = 600.0


class Pause:
    """The state of a worker's pause: its reason, and the time of the next canary."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reason: str | None = None
        self._since = 0.0
        self._held_since = 0.0
        self._probes = 0
        self._next_probe = 0.0
        self._slow: set[str] = set()

    def begin(self, reason: str) -> None:
        """Pause, or extend the pause after a failed canary; `reason` is a constant text."""
        now = self._clock()
        if self.reason is None:
            self._since = self._held_since = now
            self._probes = 0
            log.error("consumption paused", extra={"reason": reason})
        if reason != self.reason:
            metrics.PAUSED.clear()
            metrics.PAUSED.labels(reason).set(1)
        self.reason = reason
        wait = min(FIRST_WAIT * 2**self._probes, LONGEST_WAIT)
        self._probes += 1
        self._next_probe = now + wait * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def end(self) -> None:
        """Resume after a message was handled; without a pause, only reset the slow count."""
        self._slow.clear()
        if self.reason is None:
            return
        fields = {"reason": self.reason, "seconds": round(self._clock() - self._since)}
        log.info("consumption resumed", extra=fields)
        metrics.PAUSED.clear()
        self.reason = None

    def abandon(self) -> None:
        """End the pause without a result: its messages have returned to their queue."""
        self._slow.clear()
        metrics.PAUSED.clear()
        self.reason = None

    def is_slow(self, event_id: str) -> bool:
        """Count a slow message; return whether the infrastructure is considered the cause."""
        self._slow.add(event_id)
        return self.reason is not None or len(self._slow) >= SLOW_IN_A_ROW

    @property
    def wait(self) -> float:
        """Seconds until the next canary is due, or 0 if it is due or there is no pause."""
        return 0.0 if self.reason is None else max(0.0, self._next_probe - self._clock())

    def holds_too_long(self) -> bool:
        """Return whether held messages must return to their queue; if so, restart the limit."""
        if self.reason is None or self._clock() - self._held_since < HOLD_LIMIT:
            return False
        self._held_since = self._clock()
        return True
