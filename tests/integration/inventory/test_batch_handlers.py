"""A batch of random events has the same effect as its events one after another."""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

import inventory_worker.handlers
import notification_worker.handlers
import order_app.handlers
from common import events
from eventbus.consumer.inbox import inbox
from eventbus.consumer.receive import BatchHandler, Handlers
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Transient
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox
from inventory_worker import stock
from inventory_worker.models import Reservation, ReservationLine, Stock
from inventory_worker.movements import Note
from notification_worker.models import Notification
from order_app import domain
from order_app.events import Cause
from order_app.events import created as created_event
from order_app.storage import intake
from order_app.storage.models import OrderRow
from order_app.use_cases import UnknownOrder
from testkit.events.deliveries import deliver
from testkit.servers.databases import TestDatabase

SKUS = ("TEA", "CUP", "POT", "NONE")
DatabaseOf = Callable[[str], TestDatabase]


def one_after_the_other(sessions: Sessions, handlers: Handlers, deliveries: list[Event]) -> None:
    for event in deliveries:
        deliver(sessions, handlers, event)


def together(
    sessions: Sessions, handlers: Handlers, deliveries: list[Event], rng: random.Random
) -> None:
    rest = deliveries
    while rest:
        size = rng.randint(1, 12)
        batch, rest = rest[:size], rest[size:]
        try:
            deliver(sessions, handlers, *batch)
        except Transient:
            # The runtime falls back to single events, as here.
            one_after_the_other(sessions, handlers, batch)


def rows(sessions: Sessions, query: Any, but: Iterable[str]) -> list[dict[str, Any]]:
    with transaction(sessions) as session:
        mappings = [dict(row) for row in session.execute(query).mappings()]
    for row in mappings:
        if "event" in row:
            facts = json.loads(row["event"])
            row["event"] = {k: v for k, v in facts.items() if k not in ("id", "time")}
        for name in but:
            row.pop(name, None)
    return sorted(mappings, key=repr)


def repeated(deliveries: Sequence[Event], rng: random.Random) -> list[Event]:
    """Return the events in random order, with some of them twice."""
    again = [event for event in deliveries if rng.random() < 0.2]
    shuffled = [*deliveries, *again]
    rng.shuffle(shuffled)
    return shuffled


def created(order_id: UUID, rng: random.Random) -> Event:
    lines = tuple(
        events.Line(sku=sku, quantity=rng.randint(1, 4), unit_price=100)
        for sku in rng.sample(SKUS, rng.choice((1, 1, 2, 3)))
    )
    data = events.OrderCreated(
        customer_email="ada@example.org", currency="EUR", total=1, lines=lines
    )
    trace = f"00-{order_id.hex}-00f067aa0ba902b7-01"
    return Event(source="order", subject=order_id, sequence=1, traceparent=trace, data=data)


def decided(order_id: UUID, data: events.Data) -> Event:
    return Event(source="order", subject=order_id, sequence=2, data=data)


def cancelled() -> events.Data:
    return events.OrderCancelled(
        reason="customer", customer_email="ada@example.org", currency="EUR", total=1, lines=()
    )


def as_shipped(first: Event) -> events.Data:
    known = {f.name: getattr(first.data, f.name) for f in fields(events.OrderShipped)}
    return events.OrderShipped(**known)


class Twins:
    """Two databases of one service: one for single events, one for batches."""

    def __init__(self, one: Sessions, many: Sessions, handlers: Handlers) -> None:
        self.one, self.many = one, many
        self._handlers = handlers

    def prepare(self, work: Callable[[Session], object]) -> None:
        """Do the same work in both databases."""
        for sessions in (self.one, self.many):
            with transaction(sessions) as session:
                work(session)

    def handle(self, deliveries: list[Event], rng: random.Random) -> None:
        """Handle the events one by one in the first, and in batches in the second."""
        one_after_the_other(self.one, self._handlers, deliveries)
        together(self.many, self._handlers, deliveries, rng)

    def same(self, query: Any, *but: str) -> list[dict[str, Any]]:
        """Return the rows of both databases, which must be equal except for these columns."""
        one, many = (rows(sessions, query, but) for sessions in (self.one, self.many))
        assert one == many
        return one


MakeTwins = Callable[[str, Handlers], Twins]


@pytest.fixture
def twins(database_of: DatabaseOf) -> Iterator[MakeTwins]:
    """A function that creates twins."""
    engines: list[Engine] = []

    def make(service: str, handlers: Handlers) -> Twins:
        for _ in range(2):
            engines.append(db.engine(database_of(service).service_settings))
        one, many = (db.sessions(engine) for engine in engines)
        return Twins(one, many, handlers)

    yield make
    for engine in engines:
        engine.dispose()


#: Times, and numbers that the database assigns.
_TIMES = (
    "id",
    "handled_at",
    "created_at",
    "updated_at",
    "next_attempt_at",
    "decided_at",
    "released_at",
    "shipped_at",
    "deadline_at",
)


@pytest.mark.parametrize("seed", range(5))
def test_the_inventory_reserves_the_same_stock_in_batches(twins: MakeTwins, seed: int) -> None:
    # Given orders, some cancelled or repeated, for stock that is sometimes short
    rng = random.Random(seed)
    both = twins("inventory", inventory_worker.handlers.HANDLERS)
    note = Note(reason="counted", entered_by="tests")
    for sku, pieces in {"TEA": 40, "CUP": 25, "POT": 60}.items():
        both.prepare(partial(stock.count, sku=sku, pieces=pieces, note=note))
    deliveries = []
    for order_id in (uuid7() for _ in range(60)):
        first = created(order_id, rng)
        deliveries.append(first)
        if rng.random() < 0.2:
            deliveries.append(created(order_id, rng))
        if rng.random() < 0.2:
            deliveries.append(decided(order_id, cancelled()))
        if rng.random() < 0.2:
            deliveries.append(decided(order_id, as_shipped(first)))

    # When they are handled one by one and in batches
    both.handle(repeated(deliveries, rng), rng)

    # Then both databases are equal
    assert any(level["reserved"] > 0 for level in both.same(select(Stock.__table__), *_TIMES))
    both.same(select(Reservation.__table__), *_TIMES)
    both.same(select(ReservationLine.__table__))
    both.same(select(inbox), *_TIMES)
    events_sent = both.same(select(outbox), *_TIMES, "event_id")
    assert {"stock.reserved", "stock.rejected"} <= {row["type"] for row in events_sent}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_service_decides_the_same_in_batches(twins: MakeTwins, seed: int) -> None:
    # Given pending orders, some of them cancelled
    rng = random.Random(seed)
    both = twins("order", order_app.handlers.HANDLERS)
    orders = [uuid7() for _ in range(40)]

    def place(session: Session) -> None:
        for order_id in orders:
            draft = domain.Draft(
                id=order_id,
                customer_email="ada@example.org",
                currency="EUR",
                lines=(domain.Line(sku="TEA", quantity=1, unit_price=100),),
            )
            placed = created_event(draft, cause=Cause())
            placing = intake.Placing(order=draft, event=placed, deadline=timedelta(minutes=5))
            assert intake.write(session.connection(), [placing]).keys() == {order_id}

    both.prepare(place)
    reserved = events.StockReserved(lines=(events.Quantity(sku="TEA", quantity=1),))
    rejected = events.StockRejected(reason="out_of_stock", shortages=())
    deliveries = [decided(order_id, rng.choice((reserved, rejected))) for order_id in orders]
    deliveries += [decided(order_id, reserved) for order_id in orders if rng.random() < 0.2]

    # When the answers of the inventory are handled one by one and in batches
    both.handle(repeated(deliveries, rng), rng)

    # Then both databases are equal
    orders_left = both.same(select(OrderRow.__table__), *_TIMES)
    assert {row["status"] for row in orders_left} == {"CONFIRMED", "CANCELLED"}
    both.same(select(inbox), *_TIMES)
    both.same(select(outbox), *_TIMES, "event_id")


def test_the_notification_service_records_the_same_in_batches(twins: MakeTwins) -> None:
    # Given the events of orders, some of them repeated
    rng = random.Random(0)
    both = twins("notification", notification_worker.handlers.HANDLERS)
    deliveries = []
    for order_id in (uuid7() for _ in range(40)):
        first = created(order_id, rng)
        deliveries += [first, created(order_id, rng)]
        known = {f.name: getattr(first.data, f.name) for f in fields(events.OrderConfirmed)}
        deliveries.append(decided(order_id, events.OrderConfirmed(**known)))
        if rng.random() < 0.3:
            deliveries.append(decided(order_id, cancelled()))

    # When they are handled one by one and in batches
    both.handle(repeated(deliveries, rng), rng)

    # Then the same emails are pending
    assert both.same(select(Notification.__table__), *_TIMES, "not_before", "next_attempt_at")
    both.same(select(inbox), *_TIMES)


def test_adjacent_events_with_one_batch_handler_are_handled_together(
    order_database: Sessions,
) -> None:
    # Given a batch handler of two types, and a handler of single events
    calls: list[list[str]] = []
    together = BatchHandler(lambda _, batch: calls.append([event.type for event in batch]))
    handlers: Handlers = {
        events.OrderCreatedV2: together,
        events.OrderCancelled: BatchHandler(together.handle),
        events.StockReserved: lambda _, event: calls.append([event.type]),
    }
    first, reserved = created(uuid7(), random.Random(0)), events.StockReserved(lines=())
    end = decided(first.subject, cancelled())
    answers = [decided(uuid7(), reserved) for _ in range(2)]

    # When one batch contains both
    deliver(order_database, handlers, first, end, *answers, created(uuid7(), random.Random(0)))

    # Then the order of arrival is kept
    one, other = "order.created.v2", "stock.reserved"
    assert calls == [[one, "order.cancelled"], [other], [other], [one]]


def test_an_unknown_order_fails_its_batch(order_database: Sessions) -> None:
    reserved = events.StockReserved(lines=(events.Quantity(sku="TEA", quantity=1),))
    unknown = [decided(uuid7(), reserved) for _ in range(2)]

    with pytest.raises(UnknownOrder):
        deliver(order_database, order_app.handlers.HANDLERS, *unknown)
    assert rows(order_database, select(inbox), ()) == []
