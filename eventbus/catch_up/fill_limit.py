"""How many messages a queue may hold while copies are put on it, learned from what it drops."""

from eventbus.catch_up.copies import DEPTH_LIMIT

#: Messages at first.
_START = 4

#: Batches of copies at the ceiling, none dropped, before the ceiling is raised: the queue may have
#: more room than it had. A drop costs another reading, so each drop doubles this number.
_PATIENCE = 10


class FillLimit:
    """The limit grows until the queue drops a message: AMQP does not tell how much it takes."""

    def __init__(self) -> None:
        self.messages = _START
        #: What the limit grows to at most.
        self._ceiling = DEPTH_LIMIT
        #: Messages in the queue when it last dropped one.
        self._full: int | None = None
        self._patience = _PATIENCE
        self._went_well = 0

    def dropped(self, depth: int) -> None:
        """Shrink: the queue, which has `depth` messages now, has dropped some.

        A full queue is filled to half of its depth from now on. If it was emptied meanwhile, the
        limit that was too high counts instead.
        """
        self._full = depth
        self._patience *= 2
        self._went_well = 0
        self._ceiling = min(DEPTH_LIMIT, max(1, self.messages // 2, depth // 2))
        self.messages = max(1, min(self.messages // 4, self._ceiling))

    def filled(self) -> None:
        """Grow: copies were put on the queue."""
        if self.messages == self._ceiling:
            self._went_well += 1
            if self._went_well >= self._patience:
                self._went_well = 0
                self._ceiling = min(2 * self._ceiling, DEPTH_LIMIT)
        self.messages = min(2 * self.messages, self._ceiling)

    def waited(self, depth: int) -> None:
        """Grow slowly: no copy was put on the queue, as it has `depth` messages.

        Not while it is as full as at the last drop: its worker does not consume.
        """
        if self._full is None or depth < self._full:
            if self.messages == self._ceiling:
                self._ceiling = min(self._ceiling + 1, DEPTH_LIMIT)
            self.filled()
        elif depth > self._full:
            self._full = depth + 1
