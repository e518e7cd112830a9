"""How often one key may ask, counted in this process alone."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter


class RateLimit:
    """At most so many requests of each key in a minute."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(requests_per_minute)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def wait(self, key: str) -> int | None:
        """Count a request; return None if it may go on, or the seconds until the next one may."""
        if self._limiter.hit(self._limit, key):
            return None
        reset = self._limiter.get_window_stats(self._limit, key).reset_time
        return max(1, math.ceil(reset - time.time()))
