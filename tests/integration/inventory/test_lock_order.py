"""Concurrent transactions lock their rows in one order under any collation, without deadlocks."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text

import notification_worker.handlers
import order_app.handlers
from common import events
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.events.conversion import newest
from eventbus.events.envelope import Event
from eventbus.settings.service import ServiceSettings
from inventory_worker import stock_import
from inventory_worker.movements import Note
from testkit.data.orders import stored
from testkit.data.warehouse import Warehouse, order_cancelled, order_created, order_shipped
from testkit.events.deliveries import deliver
from testkit.eventually import eventually
from testkit.servers.databases import Databases, TestDatabase

#: In code point order, upper case comes before lower case; a dictionary's collation mixes them and
#: ignores punctuation.
SKUS = ["B", "a", "A-1", "a1", "a.0", "b_", "Z9", "z"]

ROUNDS = 25


@pytest.fixture
def warehouse(databases: Databases) -> Iterator[Warehouse]:
    """An inventory in a database with a dictionary's collation."""
    with databases.collated("inventory") as database:
        engine = db.engine(patient(database), pool_size=8)
        yield Warehouse(db.sessions(engine))
        engine.dispose()


@pytest.fixture
def collated(databases: Databases) -> Iterator[Callable[[str], Sessions]]:
    """Sessions on a database with a dictionary's collation, by service."""
    opened = []

    def make(service: str) -> Sessions:
        context = databases.collated(service)
        engine = db.engine(patient(context.__enter__()), pool_size=8)
        opened.append((context, engine))
        return db.sessions(engine)

    yield make
    for context, engine in opened:
        engine.dispose()
        context.__exit__(None, None, None)


def patient(database: TestDatabase) -> ServiceSettings:
    """Return settings with long timeouts: on a busy machine, a slow lock is not a deadlock."""
    limits = {"database_lock_timeout": 60.0, "database_statement_timeout": 60.0}
    return database.service_settings.model_copy(update=limits)


def at_once(*work: Callable[[], None]) -> None:
    """Run each function in its own thread, and raise their exceptions here."""
    with ThreadPoolExecutor(len(work)) as pool:
        for future in [pool.submit(each) for each in work]:
            future.result()


def test_the_collation_differs_from_code_point_order(warehouse: Warehouse) -> None:
    warehouse.receive_all(dict.fromkeys(SKUS, 1))

    with transaction(warehouse.sessions) as session:
        sorted_skus = session.scalars(text("SELECT sku FROM stock ORDER BY sku")).all()

    assert list(sorted_skus) != sorted(SKUS)


def test_an_order_and_an_import_do_not_deadlock(warehouse: Warehouse) -> None:
    """Stop both between two SKUs that the collation and the code points sort differently."""
    warehouse.receive_all(dict.fromkeys(SKUS, 10))
    order, counted = order_created({"a": 1, "a1": 1, "B": 1}), dict.fromkeys(("B", "Z9", "a"), 5)
    blocker = warehouse.sessions()
    blocker.execute(text("SELECT FROM stock WHERE sku IN ('a1', 'Z9') FOR UPDATE"))

    with ThreadPoolExecutor(2) as pool:
        work = [
            pool.submit(warehouse.handle, order),
            pool.submit(count_all, warehouse, counted),
        ]
        eventually(lambda: assert_waiting(warehouse.sessions, 2))
        blocker.rollback()
        for future in work:
            # A deadlock raises an exception here.
            future.result()

    assert warehouse.differences() == []


def assert_waiting(sessions: Sessions, count: int) -> None:
    """Require so many transactions that wait for locks."""
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with transaction(sessions) as session:
        assert session.scalar(text(query)) == count


def count_all(warehouse: Warehouse, pieces: dict[str, int]) -> None:
    """Import a count of these units."""
    note = Note(reason="counted", reference="C-1", entered_by="tests")
    with transaction(warehouse.sessions) as session:
        stock_import.begin(session, "C-1", "")
    for chunk in stock_import.chunks(pieces):
        with transaction(warehouse.sessions) as session:
            stock_import.count_chunk(session, chunk, note)


def test_concurrent_cancellations_and_shipments_do_not_deadlock(warehouse: Warehouse) -> None:
    # Given orders of overlapping SKUs: half are cancelled, half are shipped
    rng = random.Random(0)
    warehouse.receive_all(dict.fromkeys(SKUS, 1_000_000))
    orders = [order_created(dict.fromkeys(rng.sample(SKUS, 4), 1)) for _ in range(160)]
    for first in range(0, len(orders), 20):
        warehouse.handle(*orders[first : first + 20])
    ends = [rng.choice((order_cancelled, order_shipped))(order) for order in orders]
    rng.shuffle(ends)

    # When workers handle these events in batches, among new orders
    def end(part: int) -> None:
        mine = ends[part::4]
        for first in range(0, len(mine), 8):
            new = order_created(dict.fromkeys(random.Random(first).sample(SKUS, 5), 1))
            warehouse.handle_or_each(*mine[first : first + 8], new)

    at_once(*(lambda part=part: end(part) for part in range(4)))

    # Then no stock of the ended orders is reserved
    assert warehouse.differences() == []
    assert all(warehouse.status(order) in ("RELEASED", "SHIPPED") for order in orders)


def test_crosswise_creations_and_cancellations_do_not_deadlock(warehouse: Warehouse) -> None:
    """One worker creates the orders that the other worker cancels, and the reverse."""
    warehouse.receive_all(dict.fromkeys(SKUS, 1_000_000))
    for number in range(ROUNDS):
        one, other = (order_created({sku: 1}) for sku in random.Random(number).sample(SKUS, 2))

        at_once(
            lambda: warehouse.handle_or_each(one, order_cancelled(other)),  # noqa: B023
            lambda: warehouse.handle_or_each(other, order_cancelled(one)),  # noqa: B023
        )

        assert {warehouse.status(one), warehouse.status(other)} <= {"RELEASED", "CANCELLED"}
    assert warehouse.differences() == []


def answers(ids: list[UUID], rng: random.Random) -> list[Event]:
    reserved = events.StockReserved(lines=(events.Quantity(sku="TEA", quantity=1),))
    rejected = events.StockRejected(reason="out_of_stock", shortages=())
    # With new event ids: the inbox would skip copies.
    answered = [
        Event(source="inventory", subject=i, sequence=1, data=rng.choice((reserved, rejected)))
        for i in ids
    ]
    rng.shuffle(answered)
    return answered


def test_answers_about_the_same_orders_do_not_deadlock(
    collated: Callable[[str], Sessions],
) -> None:
    sessions = collated("order")
    ids = [stored(sessions) for _ in range(30)]

    def answer(seed: int) -> None:
        deliver(sessions, order_app.handlers.HANDLERS, *answers(ids, random.Random(seed)))

    at_once(*(lambda seed=seed: answer(seed) for seed in range(6)))


def test_mails_about_the_same_orders_do_not_deadlock(
    collated: Callable[[str], Sessions],
) -> None:
    """Stop both batches between two orders that they contain in opposite order."""
    sessions = collated("notification")
    first, *between, last = (order_created({"TEA": 1}) for _ in range(4))
    blocker = sessions()
    notification_worker.handlers.on_events(blocker, [newest(event) for event in between])
    # The emails are written with the next statement.
    blocker.execute(text("SELECT"))

    with ThreadPoolExecutor(2) as pool:
        batches = ([first, between[0], last], [last, between[1], first])
        # With new event ids: the inbox would skip copies.
        copies = [[order_created({"TEA": 1}, e.subject) for e in batch] for batch in batches]
        handlers = notification_worker.handlers.HANDLERS
        work = [pool.submit(deliver, sessions, handlers, *copy) for copy in copies]
        eventually(lambda: assert_waiting(sessions, 2))
        blocker.rollback()
        for future in work:
            # A deadlock raises an exception here.
            future.result()
