"""The readings of large parking lots, which the viewers of the groups share."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from common.kombu_topology import INVENTORY
from console.errors import ActionError
from console.parking.groups import Group
from console.parking.memory import Known, Listing
from console.web.parking.readings import KEPT, LARGE, RENEWED, Readings
from console.web.queries import Queries


class Started(Queries):
    """Readings that end when the test ends them."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def start(self, query: Callable[[], Any]) -> "Future[Any]":
        self.futures.append(Future())
        return self.futures[-1]


@dataclass
class Page:
    """The page of the groups, with a clock of the test."""

    queries: Started = field(default_factory=Started)
    at: datetime = datetime(2026, 11, 30, tzinfo=UTC)

    def __post_init__(self) -> None:
        self.readings = Readings(self.queries, now=lambda: self.at)

    def open(self) -> "Future[Any]":
        return self.readings.start("inventory", lambda: listing(1))

    def end(self, messages: int) -> Listing:
        """End the reading that runs, with a group of so many messages."""
        found = listing(messages)
        self.queries.futures[-1].set_result(found)
        return found


def listing(messages: int) -> Listing:
    """Return a group of messages."""
    group = Group(service="inventory", type=None, failure="ValueError", frame=None, count=messages)
    return Listing(service=INVENTORY, groups=(Known(group=group),))


def test_pages_that_are_opened_at_once_share_one_reading() -> None:
    # Given a reading that runs for two pages
    page = Page()
    pages = [page.open(), page.open()]
    assert len(page.queries.futures) == 1

    # When it ends
    found = page.end(1)

    # Then both pages show it as a new one
    assert [(each.result().listing, each.result().at) for each in pages] == [(found, None)] * 2


def test_a_small_parking_lot_is_read_again_for_each_page() -> None:
    page = Page()
    page.open()
    page.end(LARGE)
    assert not page.open().done()
    assert len(page.queries.futures) == 2


def test_a_page_of_a_large_parking_lot_shows_the_last_reading_with_its_time() -> None:
    # Given a reading of a large parking lot
    page = Page()
    page.open()
    found, read_at = page.end(LARGE + 1), page.at

    # When the page is opened soon afterwards
    shown = page.open().result()

    # Then it shows that reading, and starts no other
    assert (shown.listing, shown.at) == (found, read_at)
    assert len(page.queries.futures) == 1

    # And when it is opened later, it starts one, and does not wait for it
    page.at += RENEWED
    assert page.open().result().at == read_at
    assert len(page.queries.futures) == 2


def test_an_old_reading_is_not_shown() -> None:
    page = Page()
    page.open()
    page.end(LARGE + 1)
    page.at += KEPT
    assert not page.open().done()


def test_the_error_of_a_reading_replaces_earlier_groups() -> None:
    # Given a large parking lot, which cannot be read again
    page = Page()
    page.open()
    page.end(LARGE + 1)
    page.at += RENEWED
    page.open()
    page.queries.futures[-1].set_exception(ActionError("no broker"))

    # When the page is opened
    shown = page.open()

    # Then it waits for a new reading, and shows its error
    page.queries.futures[-1].set_exception(ActionError("still no broker"))
    with pytest.raises(ActionError, match="still no broker"):
        shown.result()


def test_a_page_that_no_longer_waits_does_not_cancel_the_reading_of_others() -> None:
    page = Page()
    impatient, other = page.open(), page.open()
    assert not impatient.cancel()
    found = page.end(1)
    assert other.result().listing is found
