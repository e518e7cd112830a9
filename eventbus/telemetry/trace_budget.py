"""A limit on the traces that are sampled per second."""

import time
from collections import Counter
from collections.abc import Callable


class TraceBudget:
    """A budget of samples per second, for each name."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = 0
        self._granted: Counter[str] = Counter()

    def grants(self, name: str) -> bool:
        """Return whether another sample of this name is within the budget."""
        second = int(self._clock())
        if second != self._second:
            self._second = second
            self._granted.clear()
        self._granted[name] += 1
        return self._granted[name] <= self._per_second
