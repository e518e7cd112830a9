"""A consumer of a parking lot returns every message that the broker has delivered to it.

The broker decides whether a message is in transit when the consumer is cancelled. A fake channel
makes this deterministic.
"""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from console.broker import parking_lot
from console.broker.parking_lot import _Holder


class Queue:
    """A channel with one consumer. The broker delivers each message as late as possible."""

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
        # The limit applies to a consumer. The previous one keeps its deliveries.
        self._unacknowledged = set()
        return "tag"

    def basic_cancel(self, _tag: str) -> None:
        while self._delivers():
            pass
        self._limit = 0

    def basic_ack(self, tag: int) -> None:
        self._unacknowledged.discard(tag)

    def basic_get(self, _queue: str) -> Any:
        # The prefetch count does not apply.
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


@pytest.mark.parametrize("is_kept", [lambda n: n % 2, lambda n: n % 3, lambda _: True])
def test_no_message_is_lost_between_two_consumers(
    is_kept: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a queue with more messages than three consumers hold, some of which are settled
    monkeypatch.setattr(parking_lot, "HOLD_LIMIT", 20)
    monkeypatch.setattr(parking_lot, "_SETTLED_TOGETHER", 3)
    queue = Queue(100)
    seen: list[int] = []

    # When one consumer after the other returns the messages that it can hold
    for _ in range(100):
        holder = _Holder(queue, "inventory.dlq", 100)  # type: ignore[arg-type]
        while message := holder.next():
            seen.append(message.delivery_tag)
            if not is_kept(message.delivery_tag):
                holder.settle(message)
        holder.cancel()

    # Then each message was returned once
    assert sorted(seen) == list(range(100))
