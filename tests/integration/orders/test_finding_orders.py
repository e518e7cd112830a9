"""Operators find orders by address, status and time, page by page, at a bounded cost."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import Result
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from common.kombu_topology import ORDER
from console.databases.service_database import reading, sessions
from console.orders import listing
from console.settings import DatabaseSettings, load_operator
from eventbus.database.db import Sessions, engine_of
from order_app.domain import Status
from order_app.storage import pages, search
from order_app.storage.pending import undecided
from order_app.storage.search import Criteria
from order_app.use_cases import Position
from testkit.data.meter import Meter
from testkit.data.orders import stored
from testkit.servers.databases import Databases

NOW = datetime.now(UTC)
DAY_AGO = NOW - timedelta(days=1)
DECIDED = {"decided_at": NOW, "sequence": 2}
CONFIRMED = {"status": "CONFIRMED", **DECIDED}
CANCELLED = {"status": "CANCELLED", "reason": "customer", **DECIDED}

#: Orders of a large table.
ORDERS = 50_000

#: Orders of a page, and reads for each of them: its index entry, its row, and some pages.
PAGE, READS = 50, 8

_FILL = """
INSERT INTO orders (id, customer_email, currency, status, total, created_at, decided_at,
    deadline_at, sequence)
SELECT gen_random_uuid(), 'c' || n % 100 || '@example.com', 'EUR', 'CONFIRMED', 1,
    now() - n * interval '1 second', now(), now(), 2
FROM generate_series(1, :count) AS n
"""


Orderctl = Callable[..., Result]


@pytest.mark.parametrize(
    ("entered", "address"),
    [
        ("ada@example.com", "ada@example.com"),
        ("ada@example.com", "Ada@example.com"),
        ("ADA.lovelace@EXAMPLE.com", "ada.lovelace@example.com"),
        ("ada.lovelace@example.com", "Ada.Lovelace@example.com"),
        ("McAda@example.com", "McAda@example.com"),
    ],
)
def test_an_order_is_found_by_its_address_in_other_capitals(
    orderctl: Orderctl, orders: Sessions, entered: str, address: str
) -> None:
    # Given orders of two customers
    order_id = stored(orders, customer_email=address)
    stored(orders, customer_email="bob@example.com")

    # When one address is searched for
    found = listed(orderctl, "--email", entered)

    # Then its order is found
    assert [order["id"] for order in found] == [str(order_id)]


def test_pages_list_each_order_once_newest_first(orderctl: Orderctl, orders: Sessions) -> None:
    # Given orders of two statuses, some placed at the same moment
    ids = [
        stored(orders, created_at=NOW - timedelta(seconds=n // 3), **(CONFIRMED if n % 2 else {}))
        for n in range(9)
    ]
    stored(orders, **CANCELLED)

    # When they are listed in pages of two
    pages, after = list[str](), list[str]()
    while True:
        statuses = ("--status", "PENDING", "--status", "confirmed")
        result = orderctl("orders", "list", "--json", "--limit", "2", *statuses, *after)
        document = json.loads(result.stdout)
        pages += [order["id"] for order in document["orders"]]
        if document["next"] is None:
            break
        after = ["--after", document["next"]]

    # Then each of them is listed once, the newest first
    expected = sorted(range(9), key=lambda n: (-(n // 3), ids[n]), reverse=True)
    assert pages == [str(ids[n]) for n in expected]


def test_orders_are_filtered_by_status_and_time(orderctl: Orderctl, orders: Sessions) -> None:
    # Given an order of an hour ago, and two of today
    old = stored(orders, created_at=NOW - timedelta(hours=1))
    new, cancelled = stored(orders), stored(orders, customer_email="bob@example.com", **CANCELLED)

    def ids(*arguments: str) -> set[UUID]:
        return {UUID(order["id"]) for order in listed(orderctl, *arguments)}

    # Then each filter selects its orders
    assert ids() == {old, new, cancelled}
    assert ids("--status", "PENDING") == {old, new}
    assert ids("--since", "30m") == {new, cancelled}
    assert ids("--until", "30m") == {old}
    assert ids("--until", (NOW - timedelta(minutes=30)).isoformat()) == {old}
    assert ids("--email", "bob@example.com", "--status", "CANCELLED") == {cancelled}
    assert ids("--email", "bob@example.com", "--status", "PENDING") == set()


def test_addresses_are_masked_unless_they_are_to_be_revealed(
    orderctl: Orderctl, orders: Sessions
) -> None:
    stored(orders, customer_email="ada.lovelace@example.com", total=109650)

    masked, revealed = orderctl("orders", "list"), orderctl("orders", "list", "--reveal")

    assert "a***@example.com" in masked.stdout
    assert "lovelace" not in masked.stdout
    assert "EUR 1,096.50" in masked.stdout
    assert "ada.lovelace@example.com" in revealed.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (("--email", "ada"), 1, "email address"),
        (("--status", "LOST"), 64, "--status"),
        (("--since", "yesterday"), 64, "--since"),
        (("--since", "999999999d"), 64, "--since"),
        (("--limit", "1001"), 64, "--limit"),
        (("--after", "abc"), 1, "after is not a cursor"),
    ],
)
def test_an_invalid_criterion_is_named(
    orderctl: Orderctl, arguments: tuple[str, ...], status: int, problem: str
) -> None:
    result = orderctl("orders", "list", *arguments)

    assert result.exit_code == status
    assert problem in result.stderr


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_page_of_a_large_table_reads_the_rows_of_the_page(
    orders: Sessions, databases: Databases, monkeypatch: pytest.MonkeyPatch, *, is_analyzed: bool
) -> None:
    # Given many confirmed orders, and fewer pending ones than the planner may expect
    monkeypatch.setattr(search, "SCANNED", 2 * PAGE)
    url = databases.server.set(database=engine_of(orders).url.database)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        # The reads of an automatic vacuum would be counted as well.
        connection.execute(text("ALTER TABLE orders SET (autovacuum_enabled = off)"))
        connection.execute(text(_FILL), {"count": ORDERS})
        if is_analyzed:
            connection.execute(text("ANALYZE orders"))
    stored(orders, customer_email="c1@example.com", created_at=DAY_AGO)
    settings = load_operator(DatabaseSettings)
    middle = NOW - timedelta(seconds=ORDERS / 2)

    def cost(**criteria: Any) -> int:
        # When a page is read
        with Meter.over(engine) as meter:
            reads = meter.cost(lambda: listing.page(settings, Criteria(**criteria), limit=PAGE))
        return reads["orders"]

    def cost_of_undecided() -> int:
        with Meter.over(engine) as meter, sessions(settings, ORDER) as database:
            reads = meter.cost(lambda: oldest(database))
        return reads["orders"]

    def cost_in_the_api(**filters: Any) -> int:
        with Meter.over(engine) as meter, sessions(settings, ORDER) as database:
            reads = meter.cost(lambda: read_page(database, **filters))
        return reads["orders"]

    # Then it costs as many reads as it has rows
    assert cost() < READS * PAGE
    assert cost(until=middle) < READS * PAGE
    assert cost(statuses=(Status.PENDING,)) < READS * PAGE
    assert cost(statuses=(Status.PENDING, Status.CONFIRMED), until=middle) < READS * PAGE
    assert cost(statuses=(Status.PENDING,), until=middle, since=DAY_AGO) < READS * PAGE
    assert cost(email="c2@example.com", until=middle) < READS * PAGE
    # And at most `SCANNED` orders of one address are searched for a status
    assert cost(email="c2@example.com", statuses=(Status.PENDING,)) < READS * 2 * PAGE
    # And the oldest undecided orders, and the pages of the API, cost no more
    assert cost_of_undecided() < READS * PAGE
    second = Position(created_at=middle, id=UUID(int=0))
    assert cost_in_the_api() < READS * PAGE
    assert cost_in_the_api(after=second) < READS * PAGE
    assert cost_in_the_api(status=Status.PENDING, after=second) < READS * PAGE
    assert cost_in_the_api(status=Status.CONFIRMED) < READS * PAGE
    assert cost_in_the_api(customer_email="c2@example.com", after=second) < READS * PAGE
    both = {"customer_email": "c2@example.com", "status": Status.PENDING}
    assert cost_in_the_api(**both) < READS * 2 * PAGE


def oldest(database: Sessions) -> None:
    """Read the oldest undecided orders, of which there is one."""
    with reading(database) as session:
        (order,) = undecided(session, older_than=timedelta(seconds=30), limit=PAGE)
    assert order.customer_email == "c1@example.com"


def read_page(database: Sessions, **filters: Any) -> None:
    """Read a page of the API's list."""
    with reading(database) as session:
        pages.page(session, limit=PAGE, **filters)


def listed(orderctl: Orderctl, *arguments: str) -> list[dict[str, Any]]:
    """Return the orders that `orderctl orders list` lists."""
    result = orderctl("orders", "list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout)["orders"])
