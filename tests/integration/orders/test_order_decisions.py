"""Answers of the inventory, cancellations and deadlines: each order is decided once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from common.events import Data, OrderCancelled, OrderConfirmed
from common.kombu_topology import ORDER
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Permanent
from order_app import use_cases
from order_app.domain import Order, Reason, Status
from order_app.events import Cause
from order_app.handlers import HANDLERS
from testkit.data.order_service import (
    REJECTED,
    RELEASED,
    RESERVED,
    TRACE,
    answer,
    cancel,
    get,
    handle,
    place,
)
from testkit.data.outbox_events import outbox_events


def test_the_handlers_match_the_consumed_event_types() -> None:
    assert {contract.TYPE for contract in HANDLERS} == set(ORDER.consumed_types)


def test_reserved_stock_confirms_the_order(order_database: Sessions) -> None:
    order = place(order_database)
    event = answer(order.id, RESERVED)

    handle(order_database, event)

    assert get(order_database, order.id).status is Status.CONFIRMED
    _, confirmed = outbox_events(order_database, order.id)
    assert isinstance(confirmed.data, OrderConfirmed)
    assert (confirmed.sequence, confirmed.causationid, confirmed.traceparent) == (
        2,
        event.id,
        TRACE,
    )


def test_rejected_stock_cancels_the_order_with_its_shortages(
    order_database: Sessions,
) -> None:
    order = place(order_database)

    handle(order_database, answer(order.id, REJECTED))

    order = get(order_database, order.id)
    assert (order.status, order.reason) == (Status.CANCELLED, Reason.OUT_OF_STOCK)
    _, cancelled = outbox_events(order_database, order.id)
    assert isinstance(cancelled.data, OrderCancelled)
    assert cancelled.data.reason == "out_of_stock"
    assert cancelled.data.shortages == REJECTED.shortages


def test_released_stock_changes_nothing(order_database: Sessions) -> None:
    order = place(order_database)

    handle(order_database, answer(order.id, RELEASED))

    assert get(order_database, order.id) == order
    assert len(outbox_events(order_database, order.id)) == 1


def test_a_late_reservation_changes_nothing(order_database: Sessions) -> None:
    order = place(order_database)
    cancelled = cancel(order_database, order.id)

    handle(order_database, answer(order.id, RESERVED))

    assert get(order_database, order.id) == cancelled
    assert [e.type for e in outbox_events(order_database, order.id)] == [
        "order.created",
        "order.cancelled",
    ]


def test_a_duplicate_answer_has_one_effect(order_database: Sessions) -> None:
    order = place(order_database)

    handle(order_database, answer(order.id, RESERVED))
    handle(order_database, answer(order.id, RESERVED))

    assert [e.sequence for e in outbox_events(order_database, order.id)] == [1, 2]


def test_several_events_of_an_order_can_share_a_transaction(order_database: Sessions) -> None:
    order = place(order_database)

    handle(
        order_database,
        answer(order.id, RESERVED),
        answer(order.id, RESERVED),
        answer(order.id, RELEASED),
    )

    assert get(order_database, order.id).status is Status.CONFIRMED
    assert [e.sequence for e in outbox_events(order_database, order.id)] == [1, 2]


@pytest.mark.parametrize("data", [RESERVED, REJECTED, RELEASED], ids=lambda data: data.TYPE)
def test_an_event_of_an_unknown_order_is_a_permanent_failure(
    order_database: Sessions, data: Data
) -> None:
    with pytest.raises(Permanent):
        handle(order_database, answer(uuid4(), data))


def test_a_customer_can_cancel_a_confirmed_order(order_database: Sessions) -> None:
    order = place(order_database)
    handle(order_database, answer(order.id, RESERVED))

    cancel(order_database, order.id)
    cancel(order_database, order.id)

    events = outbox_events(order_database, order.id)
    assert [e.type for e in events] == ["order.created", "order.confirmed", "order.cancelled"]
    assert [e.sequence for e in events] == [1, 2, 3]
    assert isinstance(events[-1].data, OrderCancelled)
    assert events[-1].data.reason == "customer"


def test_concurrent_confirmation_and_cancellation_are_consistent(
    order_database: Sessions,
) -> None:
    orders = [place(order_database) for _ in range(10)]
    barrier = threading.Barrier(2)

    def run(change: Any, order: Order) -> None:
        barrier.wait()
        change(order)

    with ThreadPoolExecutor(2) as pool:
        for order in orders:
            confirmed = pool.submit(
                run, lambda o: handle(order_database, answer(o.id, RESERVED)), order
            )
            cancelled = pool.submit(run, lambda o: cancel(order_database, o.id), order)
            confirmed.result()
            cancelled.result()

    for order in orders:
        events = outbox_events(order_database, order.id)
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))
        assert events[-1].type == "order.cancelled"
        assert get(order_database, order.id).status is Status.CANCELLED


def test_a_sweep_cancels_overdue_pending_orders_only(order_database: Sessions) -> None:
    overdue, confirmed = place(order_database, seconds=0), place(order_database, seconds=0)
    young = place(order_database)
    handle(order_database, answer(confirmed.id, RESERVED))

    with transaction(order_database) as session:
        swept = use_cases.sweep_deadlines(session, timedelta(), 100)

    assert swept.cancelled == 1
    order = get(order_database, overdue.id)
    assert (order.status, order.reason) == (Status.CANCELLED, Reason.DEADLINE)
    assert get(order_database, confirmed.id).status is Status.CONFIRMED
    assert get(order_database, young.id).status is Status.PENDING
    _, event = outbox_events(order_database, overdue.id)
    assert isinstance(event.data, OrderCancelled)
    assert (event.data.reason, event.traceparent, event.sequence) == ("deadline", TRACE, 2)


def test_concurrent_sweeps_cancel_each_order_once(order_database: Sessions) -> None:
    orders = [place(order_database, seconds=0) for _ in range(30)]

    def sweep_some() -> int:
        with transaction(order_database) as session:
            return use_cases.sweep_deadlines(session, timedelta(), 10).cancelled

    with ThreadPoolExecutor(3) as pool:
        while sum(pool.map(lambda _: sweep_some(), range(3))):
            pass

    for order in orders:
        assert [e.sequence for e in outbox_events(order_database, order.id)] == [1, 2]


def test_a_sweep_skips_a_locked_order(order_database: Sessions) -> None:
    order = place(order_database, seconds=0)

    with transaction(order_database) as session:
        use_cases.cancel(session, order.id, Reason.CUSTOMER, cause=Cause())
        session.flush()

        assert use_cases.sweep_deadlines(session, timedelta(), 10).found == 0
