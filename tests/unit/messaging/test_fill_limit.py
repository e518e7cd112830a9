"""How far a process fills a queue whose limit it cannot query."""

import pytest

from eventbus.catch_up.copies import DEPTH_LIMIT
from eventbus.catch_up.fill_limit import FillLimit


def test_the_limit_doubles_up_to_the_largest_depth() -> None:
    limit = FillLimit()
    seen = [limit.messages]
    for _ in range(20):
        limit.filled()
        seen.append(limit.messages)

    assert seen[:4] == [4, 8, 16, 32]
    assert seen[-1] == DEPTH_LIMIT


def test_a_drop_halves_the_largest_limit() -> None:
    # Given a queue for 10 messages that received 16
    limit = FillLimit()
    limit.filled()
    limit.filled()

    # When the queue drops messages, and the copies after it succeed
    limit.dropped(10)
    slow = limit.messages
    for _ in range(10):
        limit.filled()

    # Then the limit grows to half of the old one
    assert (slow, limit.messages) == (4, 8)


def test_a_drop_from_a_large_queue_does_not_limit_small_batches() -> None:
    limit = FillLimit()
    limit.dropped(1_000_000)
    for _ in range(20):
        limit.filled()

    assert limit.messages == DEPTH_LIMIT


@pytest.mark.parametrize(("depth", "grows"), [(10, False), (9, True)])
def test_a_full_queue_raises_the_limit_only_while_it_is_consumed(depth: int, grows: bool) -> None:
    limit = FillLimit()
    limit.dropped(10)
    for _ in range(30):
        limit.waited(depth)

    assert (limit.messages > 10) == grows


def test_a_drop_always_leaves_room_for_one_message() -> None:
    limit = FillLimit()
    for _ in range(10):
        limit.dropped(0)

    assert limit.messages == 1


def test_successful_copies_raise_a_reduced_limit() -> None:
    # Given a queue that accepted 10 messages before, and accepts any number now
    limit = FillLimit()
    limit.dropped(10)

    for _ in range(500):
        limit.filled()

    assert limit.messages == DEPTH_LIMIT


def test_a_small_queue_is_probed_less_and_less_often() -> None:
    # Given a queue that accepts 10 messages
    limit, drops = FillLimit(), []
    limit.dropped(10)

    # When copies are published to it for a long time
    for number in range(5_000):
        if limit.messages > 10:
            drops.append(number)
            limit.dropped(10)
        else:
            limit.filled()

    # Then the pauses between two drops double
    assert 3 < len(drops) < 10
    assert drops[-1] - drops[-2] > 10 * (drops[1] - drops[0])
