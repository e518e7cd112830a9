"""How often one key may ask, counted in this process alone."""

import math

from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter


class RateLimit:
    """At most so many requests of each key in a minute, evenly or all at once."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limiter = Throttled(
            # One moment per key, and no thread that clears up.
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_min(requests_per_minute, burst=requests_per_minute),
            store=MemoryStore(),
        )

    def wait(self, key: str) -> int | None:
        """Count a request; return None if it may go on, or the seconds until the next one may."""
        result = self._limiter.limit(key)
        return max(1, math.ceil(result.state.retry_after)) if result.limited else None
