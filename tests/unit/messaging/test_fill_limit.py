"""How far a process fills a queue whose own limit it cannot ask for."""

import pytest

from eventbus.catch_up.copies import DEPTH_LIMIT
from eventbus.catch_up.fill_limit import FillLimit


def test_the_limit_doubles_up_to_what_any_queue_may_hold() -> None:
    limit = FillLimit()
    seen = [limit.messages]
    for _ in range(20):
        limit.filled()
        seen.append(limit.messages)

    assert seen[:4] == [4, 8, 16, 32]
    assert seen[-1] == DEPTH_LIMIT


def test_a_drop_halves_what_the_limit_grows_to() -> None:
    # Given a queue for 10 messages, which 16 were put on
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
def test_waiting_raises_the_limit_only_while_the_queue_is_consumed(depth: int, grows: bool) -> None:
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


def test_copies_that_go_well_raise_what_a_drop_has_limited() -> None:
    # Given a queue that took 10 messages, and takes any number now
    limit = FillLimit()
    limit.dropped(10)

    for _ in range(500):
        limit.filled()

    assert limit.messages == DEPTH_LIMIT


def test_small_queue_is_tried_less_and_less_often() -> None:
    # Given a queue that takes no more than 10 messages
    limit, drops = FillLimit(), []
    limit.dropped(10)

    # When copies are put on it for a long time
    for number in range(5_000):
        if limit.messages > 10:
            drops.append(number)
            limit.dropped(10)
        else:
            limit.filled()

    # Then the pauses between two drops double
    assert 3 < len(drops) < 10
    assert drops[-1] - drops[-2] > 10 * (drops[1] - drops[0])
