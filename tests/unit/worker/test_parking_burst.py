"""A burst of parking: its size, its share of all events, its window and its memory."""

import pytest

from eventbus.worker.parking_burst import WINDOW, ParkingBurst

ORIGIN = "KeyError in inventory_worker/handlers.py:on_orders"


class Counted:
    """A burst of ten events, with a clock."""

    def __init__(self, limit: int = 10) -> None:
        self.now = 1_000.5
        self.burst = ParkingBurst(limit, clock=lambda: self.now)

    def park(self, count: int) -> list[str]:
        """Park events, and return the reasons for a pause."""
        return [reason for _ in range(count) if (reason := self.burst.parked(ORIGIN))]


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_a_burst_has_a_reason_with_its_size_and_origin(counted: Counted) -> None:
    counted.burst.handled(3)

    assert counted.park(9) == []
    assert counted.park(1) == [f"10 of 13 events parked within a minute: {ORIGIN}"]


def test_fewer_than_half_of_all_events_are_not_a_burst(counted: Counted) -> None:
    counted.burst.handled(21)

    assert counted.park(20) == []
    assert len(counted.park(1)) == 1


def test_events_that_are_older_than_the_window_do_not_count(counted: Counted) -> None:
    # Given parked events at the start of a window
    counted.park(9)

    # When the window has passed
    counted.now += WINDOW

    # Then they do not count, but newer ones do
    assert counted.park(1) == []
    counted.now += WINDOW - 1
    assert counted.park(8) == []
    assert len(counted.park(1)) == 1


def test_handled_events_count_only_in_their_window(counted: Counted) -> None:
    counted.burst.handled(1_000)
    counted.now += WINDOW

    assert len(counted.park(10)) == 1


def test_a_burst_is_reported_once(counted: Counted) -> None:
    assert len(counted.park(10)) == 1

    assert counted.park(9) == []
    assert len(counted.park(1)) == 1


def test_a_limit_of_zero_reports_no_burst() -> None:
    assert Counted(limit=0).park(1_000) == []


def test_a_long_time_needs_one_entry_for_each_second(counted: Counted) -> None:
    for _ in range(10 * WINDOW):
        counted.now += 0.5
        counted.burst.handled(100)
        counted.park(1)

    assert len(counted.burst._seconds) <= WINDOW
    assert counted.burst._handled <= 2 * WINDOW * 100
