"""Copies of past events that wait for room on a service's queue."""

import time
from collections.abc import Sequence

from amqp import Message

from console.errors import ActionError
from eventbus.catch_up import copies
from eventbus.catch_up.copies import DEPTH_LIMIT, CopyRefused

#: Seconds for which the queue may stay full without getting shorter.
PATIENCE = 60.0

#: Seconds between two looks at a full queue.
_PAUSE = 0.2


class Copies(copies.Copies):
    """Puts messages on the queue of one service when there is room for them."""

    def put(self, messages: Sequence[Message]) -> None:
        """Put messages on the queue when there is room; returns when the broker has all of them.

        Raises `ActionError` when nobody makes room, or the queue takes none.
        """
        self._wait_for_room(len(messages))
        try:
            super().put(messages)
        except CopyRefused as error:
            raise ActionError(str(error)) from None

    def _wait_for_room(self, messages: int) -> None:
        shortest, since = self.depth(), time.monotonic()
        depth = shortest
        while depth and depth + messages > DEPTH_LIMIT:
            if time.monotonic() - since > PATIENCE:
                raise ActionError(
                    f"{self._queue} has {depth} messages, and nobody has taken one for "
                    f"{PATIENCE:.0f} seconds: is its worker running?"
                )
            time.sleep(_PAUSE)
            depth = self.depth()
            if depth < shortest:
                shortest, since = depth, time.monotonic()
