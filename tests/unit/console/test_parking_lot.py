"""A consumer of a parking lot returns every message that the broker has delivered to it.

The broker decides which messages are in transit when the consumer is cancelled, or waits for a
response. A fake channel makes this deterministic.
"""

from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from common.kombu_topology import INVENTORY
from console.broker import parking_lot
from console.broker.parking_lot import SETTLING_LIMIT, ParkingLot, _Holder


class Queue:
    """A connection with one channel, which has one consumer.

    The broker delivers each message as late as possible or, if it `is_ahead`, as early as possible:
    all that the limit allows arrive before the response to a get.
    """

    def __init__(self, count: int, *, is_ahead: bool = False) -> None:
        self._is_ahead = is_ahead
        self.waiting = deque(SimpleNamespace(delivery_tag=n, channel=self) for n in range(count))
        self.connection = self
        self._limit = 0
        self._unacknowledged: set[int] = set()
        self._callback: Callable[[Any], None] = print

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def channel(self) -> "Queue":
        return self

    def queue_declare(self, _queue: str, *, passive: bool) -> Any:
        assert passive
        return SimpleNamespace(message_count=len(self.waiting), consumer_count=0)

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
        while self._is_ahead and self._delivers():
            pass
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
    monkeypatch.setattr(parking_lot, "_SETTLED_TOGETHER", 3)
    queue = Queue(100)
    seen: list[int] = []

    # When one consumer after the other returns the messages that it can hold
    for _ in range(100):
        holder = _Holder(queue, "inventory.dlq", 20)  # type: ignore[arg-type]
        while message := holder.next():
            seen.append(message.delivery_tag)
            if not is_kept(message.delivery_tag):
                holder.settle(message)
        holder.cancel()

    # Then each message was returned once
    assert sorted(seen) == list(range(100))


@pytest.mark.parametrize("is_kept", [lambda _: False, lambda n: n % 3])
def test_few_messages_are_in_memory_while_others_are_settled(
    is_kept: Callable[[int], bool],
) -> None:
    # Given a parking lot with many messages, which the broker sends as early as possible
    queue: Any = Queue(5_000, is_ahead=True)
    lot = ParkingLot(queue, queue, INVENTORY)

    # When messages are settled while others are read
    seen, stored = 0, 0
    for message in lot.messages():
        seen += 1
        if not is_kept(message.delivery_tag):
            lot.discard(message)
        stored = max(stored, *(len(holder._arrived) for holder in lot._holders.values()))

    # Then all were read, and few were in memory at any time: each wait for settlements fetches one
    assert seen == 5_000
    assert stored < 2 * SETTLING_LIMIT
