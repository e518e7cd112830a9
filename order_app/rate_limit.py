"""How often one key may ask, counted in this process alone."""

import math
import time
from threading import Lock

#: Seconds in which so many requests are allowed.
_PERIOD = 60.0


class RateLimit:
    """At most so many requests of each key in a minute, evenly or all at once.

    This is GCRA: of each key it holds one moment, when all that was asked would have been asked
    evenly. Keys are known ones only, so that there are never many.
    """

    def __init__(self, requests_per_minute: int) -> None:
        self._interval = _PERIOD / requests_per_minute
        self._even: dict[str, float] = {}
        self._lock = Lock()

    def wait(self, key: str) -> int | None:
        """Count a request; return None if it may go on, or the seconds until the next one may."""
        now = time.monotonic()
        with self._lock:
            even = max(self._even.get(key, now), now) + self._interval
            early = even - now - _PERIOD
            # Half an interval for what the sum of many of them has lost.
            if early < self._interval / 2:
                self._even[key] = even
                return None
        return max(1, math.ceil(early))
