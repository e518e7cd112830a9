"""The part `pages` of `make bench`: its list of pages and its figures; measuring is not tested."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import certifi
import pytest
from werkzeug.routing import Map, Rule

from bench.console import addresses
from bench.console.addresses import OMITTED, pages, routes
from bench.console.operator import summary
from bench.figures import page_report
from bench.parts.pages import STREAM, ratio
from deploy.local.problem import Problem

ORDER = "01926a3e-0000-7000-a000-000000000000"


@pytest.fixture(scope="module")
def console() -> Map:
    """The routes of the console."""
    return routes(Path(certifi.where()))


def examples() -> dict[str, str]:
    """Return an example for any argument."""
    return defaultdict(lambda: "7", order=ORDER, stuck=ORDER)


def row(page: str, p50: float, incomplete: int = 0) -> dict[str, Any]:
    """Return the result of one page."""
    return {"page": page, "p50": p50, "p99": 2 * p50, "incomplete": incomplete}


# --- Pages --------------------------------------------------------------------------------------


def test_every_page_of_the_console_is_measured(console: Map) -> None:
    # Given the routes that a browser opens
    opened = {rule.endpoint for rule in console.iter_rules() if "GET" in (rule.methods or ())}

    # When the addresses of all pages are listed
    urls = console.bind("console")
    measured = [urls.match(page.path.partition("?")[0]) for page in pages(console, examples())]

    # Then each route is measured or omitted, and every omitted one exists
    assert {endpoint for endpoint, _ in measured} | OMITTED == opened
    assert urls.match(STREAM) == ("overview.stream", {})


def test_every_listed_page_exists_and_has_its_own_title(console: Map) -> None:
    titles = [page.title for page in pages(console, examples())]
    assert len(titles) == len(set(titles))
    assert set(addresses.ARGUMENTS) <= {rule.endpoint for rule in console.iter_rules()}


def test_a_new_page_without_parameters_is_measured_by_itself() -> None:
    new = Map([Rule("/new", endpoint="new.show", methods=["GET"])])
    assert [page.path for page in pages(new, {})] == ["/new"]


def test_a_new_page_with_parameters_must_be_listed() -> None:
    new = Map([Rule("/new/<name>", endpoint="new.show", methods=["GET"])])
    with pytest.raises(Problem, match=r"/new/<name>.*new\.show"):
        list(pages(new, {}))


# --- Figures ------------------------------------------------------------------------------------


def test_the_p99_of_a_page_is_within_the_range_of_its_durations() -> None:
    assert summary([float(ms) for ms in range(1, 21)]) == {"p50": 10.5, "p99": 19.8}


def test_the_ratio_of_viewers_compares_medians() -> None:
    figures = ratio({"without": [100.0, 300.0, 200.0], "with": [196.0, 1.0, 400.0]})
    assert figures == {"number": 50, "with_per_s": 196.0, "without_per_s": 200.0, "ratio": 0.98}


def test_the_table_lists_the_slowest_page_first() -> None:
    # Given a slow page of which a section is missing, and a fast page
    measured = {
        "orders": 1_000_000,
        "parked": 100_000,
        "ms": [row("orders", 20.0), row("failure groups", 6_000.0, incomplete=3)],
        "viewers": ratio({"without": [200.0], "with": [196.0]}),
    }
    figures = {"pages": measured, "parts": {"pages": {"date": "2026-11-30", "seconds": 60}}}

    # When the table is written
    table = page_report.pages(figures)

    # Then the slow page comes first, with the number of its incomplete responses
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert rows[2] == "| failure groups | 6,000.0 | 12,000.0 | 3 |"
    assert rows[3] == "| orders | 20.0 | 40.0 |  |"
    assert "1 of 2 pages is at most 200 ms" in table
    assert "| 50 | 196 | 0.980 |" in table
