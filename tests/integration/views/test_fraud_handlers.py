"""The fraud check's suspicions and history in a real database, with events in any order."""

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from common.events import FraudSuspected, Line, OrderCreated, OrderCreatedV2
from eventbus.consumer.receive import BatchHandler, Handlers
from eventbus.database import db
from eventbus.database.db import BY_KEY, Sessions, transaction
from eventbus.events.envelope import Event
from fraud_worker.domain import Limits
from fraud_worker.handlers import Judge
from fraud_worker.models import Judgement
from testkit.data.outbox_events import outbox_events
from testkit.events.deliveries import deliver
from testkit.servers.databases import TestDatabase

HOUR = timedelta(hours=1)
LIMITS = Limits(
    window=HOUR, email_orders=3, ip_orders=5, amounts={"EUR": 1_000}, pieces=10, skus=3, score=60
)
#: A fixed time in the past: no test depends on the current time.
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

HANDLERS: Handlers = {OrderCreatedV2: BatchHandler(Judge(lambda: LIMITS).on_orders_created)}


@pytest.fixture
def sessions(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """Sessions on a fresh database of the fraud check, with its worker's options."""
    engine = db.engine(database_of("fraud").service_settings, pool_size=4, session=BY_KEY)
    yield db.sessions(engine)
    engine.dispose()


def an_order(
    minutes: float = 0,
    *,
    email: str = "ada@example.com",
    ip: str | None = "192.0.2.7",
    order_id: UUID | None = None,
    total: int = 500,
    lines: Sequence[tuple[str, int]] = (("TEA", 1),),
) -> Event:
    return Event(
        source="order",
        subject=order_id or uuid4(),
        sequence=1,
        time=NOON + timedelta(minutes=minutes),
        data=OrderCreated(
            customer_email=email,
            currency="EUR",
            total=total,
            lines=tuple(Line(sku=sku, quantity=n, unit_price=1) for sku, n in lines),
            client_ip=ip,
        ),
    )


def handle(sessions: Sessions, *orders: Event) -> None:
    for order in orders:
        deliver(sessions, HANDLERS, order)


def suspected(sessions: Sessions) -> set[UUID]:
    events = outbox_events(sessions)
    subjects = [event.subject for event in events]
    assert len(subjects) == len(set(subjects)), "an order is suspected twice"
    return set(subjects)


def test_a_usual_order_is_stored_and_not_suspected(sessions: Sessions) -> None:
    handle(sessions, an_order())

    assert outbox_events(sessions) == []
    with transaction(sessions) as session:
        assert session.scalar(select(func.count()).select_from(Judgement)) == 1


def test_a_suspicion_lists_its_order_and_its_reasons(sessions: Sessions) -> None:
    order = an_order(total=1_001, lines=(("TEA", 9), ("CUP", 2)))

    handle(sessions, order)

    [event] = outbox_events(sessions)
    assert (event.source, event.subject, event.sequence) == ("fraud", order.subject, 1)
    assert event.causationid == order.id
    data = event.data
    assert isinstance(data, FraudSuspected)
    assert (data.customer_email, data.client_ip) == ("ada@example.com", "192.0.2.7")
    assert (data.currency, data.total, data.score) == ("EUR", 1_001, 100)
    reasons = [(reason.rule, reason.found, reason.limit) for reason in data.reasons]
    assert reasons == [("amount", 1_001, 1_000), ("pieces", 11, 10)]


def test_a_customer_with_too_many_orders_is_suspected(sessions: Sessions) -> None:
    orders = [
        an_order(n, email=e)
        for n, e in enumerate(("ADA@example.com",) * 2 + ("ada@example.com",) * 3)
    ]

    handle(sessions, *orders)

    assert suspected(sessions) == {order.subject for order in orders[3:]}


def test_orders_outside_the_window_do_not_count(sessions: Sessions) -> None:
    # The last order is exactly an hour after the first, which has just left the window.
    handle(sessions, *(an_order(minutes) for minutes in (0, 1, 2, 60)))
    assert suspected(sessions) == set()

    late = an_order(60.9)
    handle(sessions, late)
    assert suspected(sessions) == {late.subject}


def test_addresses_of_one_network_count_as_one(sessions: Sessions) -> None:
    # One weak sign alone is not enough; together with the units, it is.
    orders = [
        an_order(n, email=f"{n}@example.com", ip=f"2001:db8:1:2::{n}", lines=[("A", 11)])
        for n in range(7)
    ]

    handle(sessions, *orders)

    assert suspected(sessions) == {order.subject for order in orders[5:]}


def test_orders_without_an_address_do_not_count_for_each_other(sessions: Sessions) -> None:
    orders = [an_order(n, email=f"{n}@example.com", ip=None, lines=[("A", 11)]) for n in range(9)]

    handle(sessions, *orders)

    assert suspected(sessions) == set()


def test_a_duplicate_order_counts_once(sessions: Sessions) -> None:
    order_id = uuid4()

    handle(sessions, *(an_order(n, order_id=order_id) for n in range(5)))

    assert suspected(sessions) == set()


def test_a_late_order_counts_towards_later_orders(sessions: Sessions) -> None:
    first, *others = (an_order(n) for n in range(4))
    handle(sessions, *others)
    assert suspected(sessions) == set()

    handle(sessions, first)

    assert suspected(sessions) == {others[-1].subject}


def test_only_suspicions_from_history_are_marked_as_replayed(sessions: Sessions) -> None:
    # Given a customer's orders, of which the last arrived live before the others
    *history, live = (an_order(n) for n in range(5))
    handle(sessions, live, *(replace(order, replayed=True) for order in history))

    # Then only the suspicion from history is marked as replayed
    replayed_by_order = {event.subject: event.replayed for event in outbox_events(sessions)}
    assert replayed_by_order == {history[3].subject: True, live.subject: False}


def by_the_rule(orders: Sequence[Event]) -> set[UUID]:
    """Return the orders to suspect, by a plain statement of the velocity rule."""
    suspects = set()
    for order in orders:
        ago = [o for o in orders if order.time - HOUR < o.time <= order.time]
        email = sum(o.data.customer_email == order.data.customer_email for o in ago)  # type: ignore[union-attr]
        ip = sum(o.data.client_ip == order.data.client_ip for o in ago)  # type: ignore[union-attr]
        pieces = sum(line.quantity for line in order.data.lines)  # type: ignore[union-attr]
        points = 60 * (email > 3) + 40 * (ip > 5) + 40 * (pieces > 10)
        if points >= 60:
            suspects.add(order.subject)
    return suspects


@pytest.mark.parametrize("seed", range(6))
def test_the_suspicions_do_not_depend_on_order_and_batches(sessions: Sessions, seed: int) -> None:
    # Given orders of several customers and networks, many at the same moment
    rng = random.Random(seed)
    orders = [
        an_order(
            rng.randrange(0, 240, 5),
            email=f"{rng.randrange(12)}@example.com",
            ip=f"192.0.2.{rng.randrange(6)}",
            lines=[("A", rng.choice((1, 11)))],
        )
        for _ in range(150)
    ]
    rng.shuffle(orders)

    # When they are handled in batches of any size, some twice
    deliveries = orders + rng.sample(orders, 30)
    while deliveries:
        size = rng.choice((1, 2, 7, 40))
        batch, deliveries = deliveries[:size], deliveries[size:]
        deliver(sessions, HANDLERS, *batch)

    # Then the suspected orders are those of the plain rule
    expected = by_the_rule(orders)
    assert 10 < len(expected) < 140
    assert suspected(sessions) == expected


def test_concurrent_batches_count_each_others_orders(sessions: Sessions) -> None:
    # Given orders of one customer, in many batches
    orders = [an_order(n / 10) for n in range(60)]
    batches = [orders[n::12] for n in range(12)]

    # When several threads handle them at once
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda batch: deliver(sessions, HANDLERS, *batch), batches))

    # Then each order after the limit is suspected
    assert suspected(sessions) == {order.subject for order in orders[3:]}


def test_the_cost_of_counting_does_not_grow_with_history(sessions: Sessions) -> None:
    # Given a long history of orders from one network
    with transaction(sessions) as session:
        session.execute(
            Judgement.__table__.insert(),  # type: ignore[attr-defined]
            [
                {
                    "order_id": uuid4(),
                    "placed_at": NOON + timedelta(seconds=n / 10),
                    "customer_email": "ada@example.com",
                    "customer": "ada@example.com",
                    "client_ip": "192.0.2.7",
                    "network": "192.0.2.7",
                    "currency": "EUR",
                    "total": 1,
                    "pieces": 1,
                    "skus": 1,
                    "event_id": uuid4(),
                    "suspected": True,
                }
                for n in range(5_000)
            ],
        )
    with transaction(sessions) as session:
        reads = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"
        session.connection().exec_driver_sql("SELECT pg_stat_force_next_flush()")

        # When another order is handled in its middle
        before = session.connection().exec_driver_sql(reads).scalar()
    handle(sessions, an_order(4))
    with transaction(sessions) as session:
        session.connection().exec_driver_sql("SELECT pg_stat_force_next_flush()")
        after = session.connection().exec_driver_sql(reads).scalar()

    # Then few index entries are read
    assert (after or 0) - (before or 0) < 200
