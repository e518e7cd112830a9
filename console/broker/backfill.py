"""Backfill: copying past events to a service's queue while it has room."""

import time
from collections.abc import Sequence

from amqp import Message

from console.errors import ActionError
from eventbus.catch_up import copies
from eventbus.catch_up.copies import DEPTH_LIMIT, CopyRefused

#: Maximum seconds for which the queue may stay full without getting shorter.
PATIENCE = 60.0

#: Seconds between two checks of a full queue.
_PAUSE = 0.2


class Copies(copies.Copies):
    """A publisher of messages to the queue of one service, when it has room."""

    def put(self, messages: Sequence[Message]) -> None:
        """Put messages on the queue when it has room; return when the broker has confirmed all.

        Raises `ActionError` if the queue does not get shorter, or rejects a message.
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
                    f"{self._queue} has {depth} messages, and none was consumed for "
                    f"{PATIENCE:.0f} seconds: is its worker running?"
                )
            time.sleep(_PAUSE)
            depth = self.depth()
            if depth < shortest:
                shortest, since = depth, time.monotonic()
