"""The cost of lanes for healthy queues, simulated with full queues of different speeds."""

import random

import pytest

from eventbus.outbox import lanes
from eventbus.outbox.lanes import REPAIR, Lane, Lanes, delay

#: Events of one type a second, and the duration in seconds.
ARRIVALS, DURATION = 50, 600

#: Seconds that a batch takes in the simulation.
ROUND_TRIP = 0.01

TYPE = "order.created"


@pytest.fixture(autouse=True)
def same_jitter() -> None:
    random.seed(7)


class Queue:
    """A full queue whose consumer takes `rate` messages a second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._room, self._at = 0.0, 0.0

    def accept(self, events: int, now: float) -> int:
        self._room += self._rate * (now - self._at)
        self._at = now
        accepted = min(events, int(self._room))
        self._room -= accepted
        return accepted


def copies_and_events(rate: float) -> tuple[int, int]:
    """Return the number of messages that healthy queues received, and of events that arrived."""
    queue, opened = Queue(rate), Lanes()
    opened.fail([TYPE], 0.0)
    now, sent, copies = 0.0, 0, 1
    while now < DURATION:
        lane = opened.next()
        assert lane is not None
        waiting = int(ARRIVALS * now) - sent
        if lane.due <= now and waiting:
            batch = min(lane.window, waiting, 500)
            accepted = queue.accept(batch, now)
            copies += batch
            sent += accepted
            if accepted:
                opened.confirm(lane, accepted, now)
            if accepted < batch:
                opened.fail([TYPE], now)
        now += ROUND_TRIP
    # Each waiting event will be published once more.
    return copies + int(ARRIVALS * DURATION) - sent, ARRIVALS * DURATION


@pytest.mark.parametrize("rate", [0, 0.1, 1, 5, 20, 45, 49, 50, 51, 200, 5_000])
def test_a_full_queue_costs_healthy_queues_a_tenth_at_most(rate: float) -> None:
    copies, events = copies_and_events(rate)

    assert events <= copies <= 1.1 * events


def test_a_waiting_event_is_retried_within_a_minute() -> None:
    lane = Lane(TYPE, due=0.0)
    for attempt in range(30):
        lane.fail(float(attempt))
        assert 0.5 <= lane.due - attempt <= 60.0
    assert lane.due - 29 >= 30.0


def test_the_first_delay_is_about_a_second_and_varies() -> None:
    delays = {delay(1) for _ in range(100)}

    assert len(delays) > 90
    assert all(0.5 <= seconds <= 1.0 for seconds in delays)


def test_a_lane_sends_full_batches_soon_after_recovery() -> None:
    # Given a lane that has just opened
    opened = Lanes()
    opened.fail([TYPE], 0.0)
    lane = opened.next()
    assert lane is not None

    # When each batch is confirmed
    for _ in range(350):
        opened.confirm(lane, lane.window, 1.0)

    # Then its window is a whole batch
    assert lane.window >= 500


def test_a_recovered_lane_makes_the_others_due_at_once() -> None:
    # Given two lanes
    opened = Lanes()
    opened.fail(["order.created", "order.confirmed"], 100.0)
    first = opened.next()
    assert first is not None

    # When one of them recovers
    opened.confirm(first, 1, 100.0)

    # Then the other one is due at once
    first.due = 200.0
    other = opened.next()
    assert other is not None
    assert other is not first
    assert other.due == 100.0


def test_the_repair_lane_sends_one_event_at_a_time() -> None:
    lane = Lane(REPAIR, due=0.0, confirmed=10_000)

    assert lane.window == 1


def test_the_names_of_special_lanes_are_not_event_types() -> None:
    assert REPAIR.startswith("(")
    assert lanes.BEHIND.startswith("(")
