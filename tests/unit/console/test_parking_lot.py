"""A consumer of a parking lot passes on every message that the broker has given to it.

Whether a message is still on its way when the consumer is cancelled is the broker's choice, so that
a test's channel stands in for it.
"""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from console.broker import parking_lot
from console.broker.parking_lot import _Holder


class Queue:
    """The broker's side of a channel with one consumer: each message arrives as late as it can."""

    def __init__(self, count: int) -> None:
        self.waiting = deque(SimpleNamespace(delivery_tag=n, channel=self) for n in range(count))
        self.connection = self
        self._limit = 0
        self._unacknowledged: set[int] = set()
        self._callback: Callable[[Any], None] = print

    def basic_qos(self, *, prefetch_count: int, **_: object) -> None:
        self._limit = prefetch_count

    def basic_consume(self, _queue: str, callback: Callable[[Any], None]) -> str:
        self._callback = callback
        # The limit is a consumer's: the one before keeps what it holds.
        self._unacknowledged = set()
        return "tag"

    def basic_cancel(self, _tag: str) -> None:
        while self._delivers():
            pass
        self._limit = 0

    def basic_ack(self, tag: int) -> None:
        self._unacknowledged.discard(tag)

    def basic_get(self, _queue: str) -> Any:
        # No prefetch counts it.
        return self.waiting.popleft() if self.waiting else None

    def drain_events(self, timeout: float) -> None:
        if not self._delivers():
            raise TimeoutError

    def _delivers(self) -> bool:
        if not self.waiting or len(self._unacknowledged) >= self._limit:
            return False
        message = self.waiting.popleft()
        self._unacknowledged.add(message.delivery_tag)
        self._callback(message)
        return True


@pytest.mark.parametrize("kept", [lambda n: n % 2, lambda n: n % 3, lambda _: True])
def test_no_message_is_lost_where_one_consumer_ends_and_the_next_begins(
    kept: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a queue with more messages than three consumers hold, some of which are settled
    monkeypatch.setattr(parking_lot, "HOLD_LIMIT", 20)
    monkeypatch.setattr(parking_lot, "_SETTLED_TOGETHER", 3)
    queue = Queue(100)
    seen: list[int] = []

    # When one consumer after the other passes on what it can hold
    for _ in range(100):
        holder = _Holder(queue, "inventory.dlq", 100)  # type: ignore[arg-type]
        while message := holder.next():
            seen.append(message.delivery_tag)
            if not kept(message.delivery_tag):
                holder.settle(message)
        holder.cancel()

    # Then each message was passed on once
    assert sorted(seen) == list(range(100))
