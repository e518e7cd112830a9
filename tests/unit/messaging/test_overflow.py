"""The record of dropped events: when the stream is read again, and up to which position."""

from datetime import UTC, datetime, timedelta

import pytest

from eventbus.catch_up.overflow import LATEST, SETTLED, Overflow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = timedelta(milliseconds=1)
END = 100


@pytest.fixture
def dropped() -> Overflow:
    """The record right after a drop."""
    state = Overflow()
    state.request(NOW)
    return state


@pytest.fixture
def reading(dropped: Overflow) -> Overflow:
    """The record while the stream is being read."""
    dropped.begin(END, NOW + SETTLED)
    return dropped


def test_reading_starts_when_dropped_events_are_in_the_stream(dropped: Overflow) -> None:
    assert not dropped.is_ready(NOW + SETTLED - MOMENT)
    assert dropped.is_ready(NOW + SETTLED)


def test_continuous_drops_delay_reading_for_a_limited_time(dropped: Overflow) -> None:
    # Given one drop after another
    now = NOW
    while now + SETTLED / 2 < NOW + LATEST:
        now += SETTLED / 2
        dropped.request(now)
        assert not dropped.is_ready(now)

    # Then reading starts at the latest time
    assert dropped.is_ready(NOW + LATEST)

    # And the stream is read again for the last drop, which may not be in the stream yet
    dropped.begin(END, NOW + LATEST)
    dropped.advance(END, 1, NOW + LATEST)
    assert dropped.requested_at is not None


def test_reading_ends_where_the_stream_ended_at_its_start(reading: Overflow) -> None:
    reading.advance(END - 1, 10, NOW + LATEST)
    assert (reading.position, reading.requested_at) == (END - 1, NOW)

    reading.advance(END, 1, NOW + LATEST)
    assert (reading.position, reading.requested_at) == (None, None)
    assert (reading.finished_at, reading.copied) == (NOW + LATEST, 11)


def test_a_drop_while_reading_starts_another_reading(reading: Overflow) -> None:
    # Given a second drop while the stream is read
    again = NOW + LATEST
    reading.request(again)

    # When the reading ends
    reading.advance(END, 1, again)

    # Then another reading is due
    assert (reading.position, reading.requested_at) == (None, NOW)
    assert reading.is_ready(again + SETTLED)

    # And nothing is missing after it
    reading.begin(2 * END, again + SETTLED)
    reading.advance(2 * END, 1, again + SETTLED)
    assert reading.requested_at is None
