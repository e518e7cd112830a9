"""How many traces are sampled in a second."""

import time
from collections import Counter
from collections.abc import Callable


class TraceBudget:
    """Grants each name so many samples in a second."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = 0
        self._granted: Counter[str] = Counter()

    def grants(self, name: str) -> bool:
        """Return whether to sample one more of this name."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._granted.clear()
        self._granted[name] += 1
        return self._granted[name] <= self._per_second
