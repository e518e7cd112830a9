"""The level to which copies may fill a queue, which is lowered when the queue drops messages."""

from eventbus.catch_up.copies import DEPTH_LIMIT

#: The initial limit, in messages.
_START = 4

#: The number of batches that must be copied at the ceiling without a drop before the ceiling is
#: raised, because the queue may have more room than before. A drop costs another pass, so each drop
#: doubles this number.
_PATIENCE = 10


class FillLimit:
    """A limit that grows until the queue drops a message, because its capacity is unknown."""

    def __init__(self) -> None:
        self.messages = _START
        #: The maximum to which the limit grows.
        self._ceiling = DEPTH_LIMIT
        #: The number of messages in the queue when it last dropped messages.
        self._full_depth: int | None = None
        self._patience = _PATIENCE
        self._batches_at_ceiling = 0

    def dropped(self, depth: int) -> None:
        """Reduce the limit: the queue, which now has `depth` messages, has dropped messages.

        The ceiling becomes half of that depth or half of the current limit, whichever is greater:
        the queue may have been emptied in the meantime.
        """
        self._full_depth = depth
        self._patience *= 2
        self._batches_at_ceiling = 0
        self._ceiling = min(DEPTH_LIMIT, max(1, self.messages // 2, depth // 2))
        self.messages = max(1, min(self.messages // 4, self._ceiling))

    def filled(self) -> None:
        """Raise the limit: copies were added to the queue."""
        if self.messages == self._ceiling:
            self._batches_at_ceiling += 1
            if self._batches_at_ceiling >= self._patience:
                self._batches_at_ceiling = 0
                self._ceiling = min(2 * self._ceiling, DEPTH_LIMIT)
        self.messages = min(2 * self.messages, self._ceiling)

    def waited(self, depth: int) -> None:
        """Raise the limit slowly: no copies were added, because the queue has `depth` messages.

        The limit does not grow while the queue is as full as at the last drop, because its worker
        is not consuming.
        """
        if self._full_depth is None or depth < self._full_depth:
            if self.messages == self._ceiling:
                self._ceiling = min(self._ceiling + 1, DEPTH_LIMIT)
            self.filled()
        elif depth > self._full_depth:
            self._full_depth = depth + 1
