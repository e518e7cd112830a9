"""The rate limit of requests per API key, counted separately in each process."""

import math

from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter


class RateLimit:
    """A limit on each key's requests per minute. A burst may use the full quota."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limiter = Throttled(
            # This algorithm stores a single timestamp per key, and needs no cleanup thread.
            using=RateLimiterType.GCRA.value,
            quota=rate_limiter.per_min(requests_per_minute, burst=requests_per_minute),
            store=MemoryStore(),
        )

    def count(self, key: str) -> int | None:
        """Count a request. Return None if it is within the limit, otherwise the seconds to wait."""
        result = self._limiter.limit(key)
        return max(1, math.ceil(result.state.retry_after)) if result.limited else None
