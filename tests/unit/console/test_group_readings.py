"""The readings of parking lots, which the viewers of the groups share."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from common.kombu_topology import INVENTORY
from console.errors import ActionError
from console.parking.groups import Group
from console.parking.memory import Known, Listing
from console.web.parking.readings import Readings
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
    """The page of the groups."""

    queries: Started = field(default_factory=Started)

    def __post_init__(self) -> None:
        self.readings = Readings(self.queries)

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

    # Then both pages show it
    assert [each.result() for each in pages] == [found] * 2


def test_a_parking_lot_is_read_again_for_a_later_page() -> None:
    page = Page()
    page.open()
    page.end(1)
    assert not page.open().done()
    assert len(page.queries.futures) == 2


def test_the_error_of_a_reading_is_shown_and_the_next_page_reads_again() -> None:
    # Given a reading that fails
    page = Page()
    shown = page.open()
    page.queries.futures[-1].set_exception(ActionError("no broker"))

    # Then the page shows its error, and the next page waits for another reading
    with pytest.raises(ActionError, match="no broker"):
        shown.result()
    assert not page.open().done()


def test_a_page_that_no_longer_waits_does_not_cancel_the_reading_of_others() -> None:
    page = Page()
    impatient, other = page.open(), page.open()
    assert not impatient.cancel()
    found = page.end(1)
    assert other.result() is found
