"""The figures of analytics equal the orders after kills and replays of real processes."""

import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from pydantic import SecretStr

from analytics_worker.replay import Rebuilt, Replay
from console.actions import analytics
from console.settings import ReplaySettings
from eventbus.messaging.stream import Entry
from testkit.eventually import eventually
from testkit.processes.stack import ORDER_FLOW, Stack
from testkit.servers.databases import TestDatabase

READER = "analytics-reader"

#: Seconds for which orders are placed while the reader is killed and replays run.
LOAD = 10.0

#: Seconds between two orders of a customer: some events are always in flight, and the processors
#: are not saturated.
PAUSE = 0.15

#: Readers that are killed in turn. Each of the two kinds of commit is the last commit of one.
READERS = 4

_SALES = """
SELECT date_trunc('minute', created_at), currency, count(*), sum(total)::bigint,
    count(*) FILTER (WHERE status = 'CONFIRMED'),
    coalesce(sum(total) FILTER (WHERE status = 'CONFIRMED'), 0)::bigint,
    count(*) FILTER (WHERE reason = 'out_of_stock'),
    count(*) FILTER (WHERE reason IN ('customer', 'deadline'))
FROM orders GROUP BY 1, 2 ORDER BY 1, 2
"""
_MINUTES = """
SELECT minute, currency, placed, placed_total, confirmed, revenue, rejected, cancelled
FROM minutes ORDER BY 1, 2
"""
_SKU_SALES = """
SELECT date_trunc('minute', created_at), sku, count(*), sum(quantity)::bigint,
    count(*) FILTER (WHERE status = 'CONFIRMED'),
    coalesce(sum(quantity * unit_price) FILTER (WHERE status = 'CONFIRMED'), 0)::bigint
FROM orders JOIN order_lines ON order_id = orders.id GROUP BY 1, 2 ORDER BY 1, 2
"""
_SKU_MINUTES = """
SELECT minute, sku, placed, pieces, confirmed, revenue FROM sku_minutes ORDER BY 1, 2
"""
# Not of orders that a customer cancelled: the cancellation overwrites the time of the decision.
_WAITS = """
SELECT id::text, extract(epoch FROM decided_at - {placed}) FROM orders
WHERE {decided} ORDER BY 1
"""


def rows(stack: Stack, service: str, sql: str) -> list[str]:
    query = f"SELECT row_to_json(t)::text FROM ({sql}) AS t ({', '.join('abcdefgh'[: width(sql)])})"
    return [json.dumps(list(json.loads(row).values())) for row in stack.execute(service, query)]


def width(sql: str) -> int:
    return {_SALES: 8, _MINUTES: 8, _SKU_SALES: 6, _SKU_MINUTES: 6}.get(sql, 2)


def equal(stack: Stack) -> None:
    """Require that the figures are those of the orders table."""
    assert rows(stack, "analytics", _MINUTES) == rows(stack, "order", _SALES)
    assert rows(stack, "analytics", _SKU_MINUTES) == rows(stack, "order", _SKU_SALES)
    decided = "status = 'CONFIRMED' OR reason = 'out_of_stock'"
    assert rows(
        stack,
        "analytics",
        _WAITS.format(placed="placed_at", decided="outcome IN ('CONFIRMED', 'REJECTED')"),
    ) == rows(stack, "order", _WAITS.format(placed="created_at", decided=decided))


@contextmanager
def load(stack: Stack) -> Iterator[list[str]]:
    """Let four customers place orders, and cancel some, during the block."""
    ended, placed = Event(), list[str]()

    def order(customer: int) -> None:
        chance = random.Random(customer)
        while not ended.is_set():
            sku, other = chance.choice((("TEA", "CUP"), ("TEA", "NONE")))
            order_id = stack.place((sku, chance.randint(1, 3)), (other, 1))
            placed.append(order_id)
            if chance.random() < 0.1:
                stack.cancel(order_id)
            ended.wait(PAUSE)

    with ThreadPoolExecutor(4) as pool:
        customers = [pool.submit(order, n) for n in range(4)]
        try:
            yield placed
        finally:
            ended.set()
        for customer in customers:
            customer.result(timeout=60)


class Operator(ReplaySettings):
    """The settings of an operator, for a test's databases."""

    database: TestDatabase

    def database_name(self, _service: str) -> str:
        """Return the name of the test's database."""
        return str(self.database.url.database)


def replay(stack: Stack) -> Rebuilt:
    """Replay as `orderctl analytics replay --from first` does."""
    database = stack.databases["analytics"]
    settings = Operator(
        **stack.broker_admin.model_dump(exclude_none=True),
        database=database,
        database_host=database.url.host,
        database_port=database.url.port,
        database_ca_file=database.ca_file,
        database_admin_user=str(database.url.username),
        database_admin_password=SecretStr(str(database.url.password)),
    )
    return analytics.replay(settings, "first", limit=90)


def kill_at_random(stack: Stack, until: float) -> None:
    """Kill and restart the reader at random times."""
    chance = random.Random(7)
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.3, 1.5))
        stack.kill(READER)
        stack.start(READER)


def settle(stack: Stack) -> None:
    """Wait until every order is decided and read, and the figures equal the orders."""

    def settled() -> None:
        (pending,) = stack.execute("order", "SELECT count(*) FROM orders WHERE status = 'PENDING'")
        assert pending == 0
        assert stack.execute("order", "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [0]
        equal(stack)

    eventually(settled)
    assert stack.execute("analytics", "SELECT count(*) FROM skipped_events") == [0]
    assert stack.execute("analytics", "SELECT count(*) FROM stream_gaps") == [0]


@pytest.fixture
def shop(stack: Stack) -> Stack:
    """A shop that rejects half of its orders, and its analytics."""
    stack.start(*ORDER_FLOW, READER)
    stack.stock(TEA=10**6, CUP=10**6)
    return stack


def test_the_figures_equal_the_orders_after_random_kills(shop: Stack) -> None:
    # When orders are placed, and the reader is killed at random times
    with load(shop) as placed:
        eventually(lambda: _assert_some(shop))
        kill_at_random(shop, time.monotonic() + LOAD)

    # Then the figures equal the orders
    settle(shop)
    assert len(placed) > 20


def test_the_figures_equal_the_orders_after_a_kill_at_any_commit(shop: Stack) -> None:
    # Given a shop whose reader is down
    shop.kill(READER)

    # When orders are placed, and the nth reader is killed immediately after its nth commit
    with load(shop) as placed:
        for commits in range(1, READERS + 1):
            shop.extra["COMMITS"] = str(commits)
            shop.launch(READER, module="testkit.programs.crashing.analytics_reader")
            shop.wait_until_killed(READER)
    shop.start(READER)

    # Then the figures equal the orders
    settle(shop)
    assert len(placed) > READERS


def test_the_figures_equal_the_orders_after_replays_under_load(
    shop: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given replays that the reader overtakes before they exchange the rows
    exchange = Replay._exchange

    def late(self: Replay, first: Entry) -> int:
        eventually(lambda: _assert_read_beyond(shop, self._reached))
        return exchange(self, first)

    monkeypatch.setattr(Replay, "_exchange", late)
    until = time.monotonic() + LOAD
    replays: list[Rebuilt] = []

    def keep_replaying() -> None:
        while time.monotonic() < until:
            replays.append(replay(shop))

    # When orders are placed, the reader is killed, and replays run
    with load(shop):
        eventually(lambda: _assert_some(shop))
        operator = Thread(target=keep_replaying)
        operator.start()
        kill_at_random(shop, until)
        operator.join(timeout=120)
    monkeypatch.undo()

    # Then the figures equal the orders
    settle(shop)
    assert replays

    # And another replay corrects wrong figures
    shop.execute("analytics", "UPDATE minutes SET placed = placed + 1, revenue = 0")
    replay(shop)
    equal(shop)


def _assert_some(stack: Stack) -> None:
    assert stack.execute("analytics", "SELECT count(*) FROM orders")[0] > 0


def _assert_read_beyond(stack: Stack, offset: int) -> None:
    (reached,) = stack.execute("analytics", "SELECT stream_offset FROM stream_position")
    assert reached > offset
