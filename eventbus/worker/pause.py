"""The pause: a worker whose infrastructure does not work takes up nothing, and probes it.

The probe is one waiting message, the canary: if it is handled, or fails for a reason of its own,
consumption goes on. Meanwhile received messages are held, unacknowledged, with their attempts
unchanged; the rest waits in the queue. A pause outlives connections to the broker.
"""

import logging
import random
import time
from collections.abc import Callable

from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Seconds before the first canary and, at most, between two of them. An outage ends for a worker
#: within the longest wait; one statement every few seconds is no load for a server that recovers.
FIRST_WAIT, LONGEST_WAIT = 1.0, 10.0

#: Different messages in a row, each handled alone, that took too long: then it is not their fault.
#: Each is charged one attempt until then.
SLOW_IN_A_ROW = 3

#: Seconds for which messages are held. Then they go back to their queue, by a reconnect: the broker
#: closes the channel of a consumer that holds one for too long (30 minutes, unless configured).
HOLD_LIMIT = 600.0


class Pause:
    """Whether a worker's consumption is paused, why, and when to send the next canary."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reason: str | None = None
        self._since = 0.0
        self._held_since = 0.0
        self._probes = 0
        self._next_probe = 0.0
        self._slow: set[str] = set()

    def begin(self, reason: str) -> None:
        """Pause, or go on pausing after a canary that failed; `reason` is a constant text."""
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
        """Resume, because something was handled; without a pause, nothing happens."""
        self._slow.clear()
        if self.reason is None:
            return
        about = {"reason": self.reason, "seconds": round(self._clock() - self._since)}
        log.info("consumption resumed", extra=about)
        metrics.PAUSED.clear()
        self.reason = None

    def is_slow(self, event_id: str) -> bool:
        """Count a message that took too long; return whether the infrastructure is at fault."""
        self._slow.add(event_id)
        return self.reason is not None or len(self._slow) >= SLOW_IN_A_ROW

    @property
    def wait(self) -> float:
        """Seconds until the next canary is due; 0 if it is, or if there is no pause."""
        return 0.0 if self.reason is None else max(0.0, self._next_probe - self._clock())

    def holds_too_long(self) -> bool:
        """Return whether held messages must go back; counts anew from then on."""
        if self.reason is None or self._clock() - self._held_since < HOLD_LIMIT:
            return False
        self._held_since = self._clock()
        return True
