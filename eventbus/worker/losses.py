"""Outages that one message causes: the database fails whenever it is handled, and only then.

A handler, a trigger or a bug of the server may end the connection each time it handles a message.
That appears as an outage, for which no message is charged, so the message would pause its service
forever. It is recognized by the other messages: an outage that ends, and returns with the same
message, `LIMIT` times, is caused by that message.
"""

from collections import Counter
from collections.abc import Iterable

#: The number of outages with the same message, each of which has ended with another message, after
#: which the message is charged for the next one. An outage rarely interrupts the same message
#: twice, and a charged attempt is only retried later.
LIMIT = 3

#: The maximum number of messages that are counted: more than a worker holds.
_MOST = 1_000


class Losses:
    """The messages that were interrupted by an outage while they were handled alone."""

    def __init__(self) -> None:
        self._outages: Counter[str] = Counter()
        #: The messages that were interrupted by the current outage.
        self._current: set[str] = set()

    def interrupted(self, event_id: str) -> bool:
        """Record that an outage has interrupted a message; return whether the message causes it."""
        self._current.add(event_id)
        return self._outages[event_id] >= LIMIT

    def handled(self, event_ids: Iterable[str]) -> None:
        """Record that messages were handled, so the outage has ended, and was not theirs."""
        for event_id in event_ids:
            self._current.discard(event_id)
            del self._outages[event_id]
        self._outages.update(self._current)
        self._current.clear()
        if len(self._outages) > _MOST:
            self._outages.clear()
