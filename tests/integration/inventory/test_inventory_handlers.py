"""The inventory's handlers on a real database, with events in any order."""

import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from common.events import Line, OrderCancelled, OrderCreated, OrderShipped
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from eventbus.events.limits import INTEGER
from eventbus.outbox.table import outbox
from inventory_worker import stock
from inventory_worker.handlers import HANDLERS
from inventory_worker.models import Reservation, ReservationLine, Status, Stock
from inventory_worker.movements import Note, differences
from testkit.data.outbox_events import outbox_events
from testkit.events.deliveries import deliver

COUNTED = Note(reason="counted", entered_by="tests")


def put(sessions: Sessions, **pieces: int) -> None:
    with transaction(sessions) as session:
        for sku, quantity in pieces.items():
            stock.count(session, sku, quantity, COUNTED)


def reserved(sessions: Sessions) -> dict[str, int]:
    with transaction(sessions) as session:
        return {level.sku: level.reserved for level in stock.levels(session)}


def status(sessions: Sessions, order_id: UUID) -> str | None:
    with transaction(sessions) as session:
        return session.scalar(select(Reservation.status).where(Reservation.order_id == order_id))


def created(order_id: UUID, **lines: int) -> Event:
    data = OrderCreated(
        customer_email="ada@example.org",
        currency="EUR",
        total=100,
        lines=tuple(Line(sku=sku, quantity=n, unit_price=1) for sku, n in lines.items()),
    )
    return Event(source="order", subject=order_id, sequence=1, traceparent="00-1-2-01", data=data)


def cancelled(order_id: UUID) -> Event:
    data = OrderCancelled(
        reason="customer", customer_email="ada@example.org", currency="EUR", total=100, lines=()
    )
    return Event(source="order", subject=order_id, sequence=2, data=data)


def shipped(order_id: UUID, **lines: int) -> Event:
    data = OrderShipped(
        customer_email="ada@example.org",
        currency="EUR",
        total=100,
        lines=tuple(Line(sku=sku, quantity=n, unit_price=1) for sku, n in lines.items()),
    )
    return Event(source="order", subject=order_id, sequence=3, data=data)


def handle(sessions: Sessions, *events: Event) -> None:
    deliver(sessions, HANDLERS, *events)


def test_an_order_in_stock_is_reserved(inventory_database: Sessions) -> None:
    put(inventory_database, A=5, B=5)
    order = uuid4()
    event = created(order, B=1, A=5)

    handle(inventory_database, event)

    assert reserved(inventory_database) == {"A": 5, "B": 1}
    assert status(inventory_database, order) == Status.RESERVED
    (answer,) = outbox_events(inventory_database, order)
    assert answer.type == "stock.reserved"
    assert [(line.sku, line.quantity) for line in answer.data.lines] == [("A", 5), ("B", 1)]
    assert (answer.source, answer.sequence) == ("inventory", 1)
    assert (answer.causationid, answer.traceparent) == (event.id, event.traceparent)


def test_a_short_order_reserves_nothing_and_lists_its_shortages(
    inventory_database: Sessions,
) -> None:
    put(inventory_database, A=5, B=1)
    order = uuid4()

    handle(inventory_database, created(order, A=1, B=2, NOPE=1))

    assert reserved(inventory_database) == {"A": 0, "B": 0}
    assert status(inventory_database, order) == Status.REJECTED
    (answer,) = outbox_events(inventory_database, order)
    assert (answer.type, answer.data.reason) == ("stock.rejected", "out_of_stock")
    assert [(s.sku, s.requested, s.available) for s in answer.data.shortages] == [
        ("B", 2, 1),
        ("NOPE", 1, 0),
    ]


def test_the_largest_quantity_is_rejected(inventory_database: Sessions) -> None:
    put(inventory_database, A=5)
    order = uuid4()

    handle(inventory_database, created(order, A=INTEGER))

    assert status(inventory_database, order) == Status.REJECTED


def test_a_cancelled_order_releases_its_stock(inventory_database: Sessions) -> None:
    put(inventory_database, A=5, B=5)
    order = uuid4()
    handle(inventory_database, created(order, A=3, B=2))

    handle(inventory_database, cancelled(order))
    handle(inventory_database, cancelled(order))

    assert reserved(inventory_database) == {"A": 0, "B": 0}
    assert status(inventory_database, order) == Status.RELEASED
    answers = outbox_events(inventory_database, order)
    assert [(a.type, a.sequence) for a in answers] == [("stock.reserved", 1), ("stock.released", 2)]
    assert [(line.sku, line.quantity) for line in answers[1].data.lines] == [("A", 3), ("B", 2)]


def test_a_cancelled_order_without_stock_releases_nothing(
    inventory_database: Sessions,
) -> None:
    put(inventory_database, A=1)
    order = uuid4()
    handle(inventory_database, created(order, A=2))

    handle(inventory_database, cancelled(order))

    assert status(inventory_database, order) == Status.REJECTED
    assert [answer.type for answer in outbox_events(inventory_database, order)] == [
        "stock.rejected"
    ]


def test_an_order_cancelled_before_it_was_created_reserves_nothing(
    inventory_database: Sessions,
) -> None:
    put(inventory_database, A=5)
    order = uuid4()

    handle(inventory_database, cancelled(order))
    handle(inventory_database, created(order, A=1))

    assert status(inventory_database, order) == Status.CANCELLED
    assert reserved(inventory_database) == {"A": 0}
    assert outbox_events(inventory_database, order) == []


def test_an_order_created_by_two_events_is_reserved_once(
    inventory_database: Sessions,
) -> None:
    put(inventory_database, A=5)
    order = uuid4()

    handle(inventory_database, created(order, A=2))
    handle(inventory_database, created(order, A=2))

    assert reserved(inventory_database) == {"A": 2}
    assert len(outbox_events(inventory_database, order)) == 1


def test_orders_in_one_batch_see_each_others_reservations(
    inventory_database: Sessions,
) -> None:
    put(inventory_database, A=5)
    orders = [uuid4(), uuid4(), uuid4()]

    placed = [created(order, A=2) for order in orders]
    handle(inventory_database, *placed, cancelled(orders[0]))

    assert [status(inventory_database, order) for order in orders] == [
        Status.RELEASED,
        Status.RESERVED,
        Status.REJECTED,
    ]
    assert reserved(inventory_database) == {"A": 2}


@pytest.mark.parametrize("seed", range(3))
def test_concurrent_orders_neither_deadlock_nor_oversell(
    inventory_database: Sessions, seed: int
) -> None:
    """Eight workers handle repeated and shuffled events of few SKUs; then the sums must agree."""
    chance = random.Random(seed)
    skus = ["A", "B", "C", "D", "E"]
    put(inventory_database, **dict.fromkeys(skus, 60))
    events = []
    for _ in range(150):
        order = uuid4()
        wanted = chance.sample(skus, chance.randint(1, 5))
        lines = {sku: chance.randint(1, 3) for sku in wanted}
        events.append(created(order, **lines))
        if chance.random() < 0.4:
            events.append(cancelled(order))
        if chance.random() < 0.3:
            events.append(shipped(order, **lines))
    events += chance.sample(events, 40)
    chance.shuffle(events)

    with ThreadPoolExecutor(8) as workers:
        # A deadlock or a negative level raises an exception here.
        list(workers.map(lambda event: handle(inventory_database, event), events))

    assert_consistent(inventory_database)


def assert_consistent(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        held = session.execute(
            select(ReservationLine.sku, func.sum(ReservationLine.quantity))
            .join(Reservation, Reservation.order_id == ReservationLine.order_id)
            .where(Reservation.status == Status.RESERVED)
            .group_by(ReservationLine.sku)
        )
        sums = Counter({sku: int(quantity) for sku, quantity in held})
        levels = session.scalars(select(Stock)).all()
        statuses = {row.order_id: row.status for row in session.scalars(select(Reservation))}
        published = defaultdict(list)
        for subject, event_type in session.execute(
            select(outbox.c.subject, outbox.c.type).order_by(outbox.c.id)
        ):
            published[subject].append(event_type)
    assert {level.sku: level.reserved for level in levels} == {
        level.sku: sums[level.sku] for level in levels
    }
    assert all(level.reserved >= 0 for level in levels)
    with transaction(sessions) as session:
        assert differences(session, 10) == []
    expected: dict[Status, list[list[str]]] = {
        Status.RESERVED: [["stock.reserved"]],
        Status.REJECTED: [["stock.rejected"]],
        Status.RELEASED: [["stock.reserved", "stock.released"]],
        Status.CANCELLED: [[]],
        # A shipment is recorded in every state.
        Status.SHIPPED: [
            [],
            ["stock.reserved"],
            ["stock.rejected"],
            ["stock.reserved", "stock.released"],
        ],
    }
    for order, status in statuses.items():
        assert published[order] in expected[Status(status)]
    assert set(statuses.values()) == set(Status), "the orders were not mixed enough"
