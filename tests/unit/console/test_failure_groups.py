"""Parked messages are grouped by their cause, even if their headers are hostile."""

from dataclasses import replace

from console.broker.parked_message import Parked
from console.parking.groups import GROUP_LIMIT, OTHERS, RELEASE_LIMIT, grouped, key_of

PARKED = Parked(
    service="inventory",
    id="e-1",
    type="order.created.v2",
    order_id="an-order",
    exception="KeyError",
    text="raised in inventory_worker/stock.py:12, lock",
    attempts=6,
    first_failed_at="2026-11-02T10:00:00+00:00",
    last_failed_at="2026-11-02T10:12:00+00:00",
    release="r1",
    frame="inventory_worker/reservations.py:lock_stock",
)


def test_one_cause_in_two_releases_is_one_group() -> None:
    later = replace(
        PARKED,
        id="e-2",
        text="raised in inventory_worker/stock.py:99, lock",
        first_failed_at="2026-11-01T10:00:00+00:00",
        last_failed_at="2026-11-03T10:12:00+00:00",
        release="r2",
    )

    (group,) = grouped([PARKED, later])

    assert (group.count, group.releases, group.example) == (2, ["r1", "r2"], "e-2")
    assert (group.type, group.failure) == ("order.created.v2", "KeyError")
    assert group.first_seen
    assert group.last_seen
    assert (group.first_seen.day, group.last_seen.day) == (1, 3)


def test_each_type_failure_and_function_is_a_group() -> None:
    others = [
        replace(PARKED, type="order.created"),
        replace(PARKED, exception="ValueError"),
        replace(PARKED, frame="inventory_worker/stock.py:count"),
        replace(PARKED, exception=None, text="its queue was full"),
    ]

    found = grouped([*others, PARKED, PARKED])

    assert [group.count for group in found] == [2, 1, 1, 1, 1]
    assert "its queue was full" in {group.failure for group in found}


def test_a_time_that_is_none_is_left_out() -> None:
    unreadable = replace(PARKED, first_failed_at="soon", last_failed_at="9" * 300)

    (group,) = grouped([unreadable, replace(unreadable, first_failed_at=None)])

    assert (group.count, group.first_seen, group.last_seen) == (2, None, None)


def test_times_with_and_without_a_zone_are_compared() -> None:
    (group,) = grouped([PARKED, replace(PARKED, first_failed_at="2026-11-01T10:00:00")])

    assert group.first_seen
    assert group.first_seen.isoformat() == "2026-11-01T10:00:00+00:00"


def test_groups_and_releases_are_limited() -> None:
    many = [replace(PARKED, type=f"type {n}", release=f"r{n}") for n in range(GROUP_LIMIT + 100)]

    found = grouped([*many, *many])

    assert len(found) == GROUP_LIMIT + 1
    assert (found[0].type, found[0].count) == (OTHERS, 200)
    assert len(found[0].releases) == RELEASE_LIMIT


def test_the_key_of_a_group_is_that_of_its_cause() -> None:
    (group,) = grouped([PARKED, replace(PARKED, id="e-2", release="r2", text="another line")])
    (other,) = grouped([replace(PARKED, frame=None)])

    assert group.key == key_of("order.created.v2", "KeyError", PARKED.frame)
    assert len(group.key) == len(other.key) == 12
    assert group.key != other.key


def test_failures_after_the_last_count_are_new() -> None:
    later = replace(PARKED, last_failed_at="2026-11-02T10:12:00.001+00:00")
    unreadable = replace(PARKED, last_failed_at="soon")
    since = {grouped([PARKED])[0].key: PARKED.last_failure}

    (group,) = grouped([PARKED, later, unreadable], since)
    (first,) = grouped([PARKED, later, unreadable])

    assert (group.count, group.new) == (3, 1)
    assert (first.count, first.new) == (3, 3)
