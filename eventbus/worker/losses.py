"""Outages that one message causes, because the database fails only when it is handled.

A handler, a trigger or a bug of the server may end the connection each time it handles a message.
This appears as an outage, which is not counted as an attempt, so the message would pause its
service indefinitely. If an outage ends with another message, and returns with the same message
`LIMIT` times, that message is considered the cause.
"""

from collections import Counter
from collections.abc import Iterable

#: The number of outages with the same message, each of which has ended with another message, after
#: which the next outage counts as an attempt of the message. An outage rarely interrupts the same
#: message twice, and after an attempt the message is merely retried later.
LIMIT = 3

#: The maximum number of messages that are counted, which is more than a worker holds.
_MOST = 1_000


class Losses:
    """The messages that were interrupted by an outage while they were handled alone."""

    def __init__(self) -> None:
        self._outages: Counter[str] = Counter()
        #: The messages that were interrupted by the current outage.
        self._current: set[str] = set()

    def interrupted(self, event_id: str) -> bool:
        """Record that an outage interrupted a message, and return whether the message causes it."""
        self._current.add(event_id)
        return self._outages[event_id] >= LIMIT

    def handled(self, event_ids: Iterable[str]) -> None:
        """Record that messages were handled: the outage has ended, and they did not cause it."""
        if not (self._current or self._outages):
            return
        for event_id in event_ids:
            self._current.discard(event_id)
            del self._outages[event_id]
        self._outages.update(self._current)
        self._current.clear()
        if len(self._outages) > _MOST:
            self._outages.clear()
