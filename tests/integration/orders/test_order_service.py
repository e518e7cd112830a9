"""The order service's use-cases and handlers on a real database."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.events import (
    Data,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    Quantity,
    Shortage,
    StockRejected,
    StockReleased,
    StockReserved,
)
from common.kombu_topology import ORDER
from eventbus.consumer.inbox import first_delivery
from eventbus.database.db import Sessions, transaction
from eventbus.errors import Permanent
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox
from order_app import use_cases
from order_app.domain import Line, Order, Reason, Status
from order_app.events import Cause
from order_app.handlers import HANDLERS
from order_app.storage import intake
from order_app.storage.idempotency import KeyReused
from order_app.storage.models import OrderRow
from order_app.storage.timeline import timeline
from order_app.use_cases import Placement, UnknownOrder

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

PLACEMENT = Placement(
    customer_email="ann@example.com",
    currency="EUR",
    lines=(
        Line(sku="TEA", quantity=2, unit_price=1250),
        Line(sku="CUP", quantity=1, unit_price=5),
    ),
)
RESERVED = StockReserved(lines=(Quantity(sku="TEA", quantity=2), Quantity(sku="CUP", quantity=1)))
REJECTED = StockRejected(
    reason="out_of_stock", shortages=(Shortage(sku="TEA", requested=2, available=1),)
)
RELEASED = StockReleased(lines=RESERVED.lines)


def place(sessions: Sessions, *, seconds: float = 900, key: str | None = None) -> Order:
    with transaction(sessions) as session:
        return place_in(session, PLACEMENT, seconds=seconds, key=key)


def place_in(
    session: Session, placement: Placement, *, seconds: float = 900, key: str | None = None
) -> Order:
    """Place an order in a transaction; return it, or the one that its key stands for."""
    deadline, cause = timedelta(seconds=seconds), Cause(traceparent=TRACE)
    new = use_cases.new_order(placement, deadline=deadline, cause=cause, key=key)
    placed = intake.write(session.connection(), [new])
    if new.claim and not placed:
        return use_cases.placed_before(session, new.claim)
    return placed[new.order.id]


def get(sessions: Sessions, order_id: UUID) -> Order:
    with transaction(sessions) as session:
        return use_cases.get(session, order_id)


def cancel(sessions: Sessions, order_id: UUID, reason: Reason = Reason.CUSTOMER) -> Order:
    with transaction(sessions) as session:
        return use_cases.cancel(session, order_id, reason, cause=Cause(traceparent=TRACE))


def answer(order_id: UUID, data: Data, *, causation: UUID | None = None) -> Event:
    return Event(
        source="inventory",
        subject=order_id,
        sequence=1,
        traceparent=TRACE,
        causationid=causation,
        data=data,
    )


def handle(sessions: Sessions, *events: Event) -> None:
    """Handle the events in one transaction, as the consumer's runtime does."""
    with transaction(sessions) as session:
        for event in events:
            if first_delivery(session, event, attempts=1):
                HANDLERS[type(event.data)](session, event)


def told(sessions: Sessions, order_id: UUID) -> list[Event]:
    """What the outbox tells of an order."""
    with transaction(sessions) as session:
        rows = session.scalars(
            select(outbox.c.event).where(outbox.c.subject == order_id).order_by(outbox.c.id)
        )
        return [codec.decode(json.loads(row)) for row in rows]


def test_the_handlers_are_what_the_topology_says_the_service_consumes() -> None:
    assert {contract.TYPE for contract in HANDLERS} == set(ORDER.consumed_types)


def test_a_placed_order_and_its_event_are_stored_together(order_database: Sessions) -> None:
    order = place(order_database)

    assert get(order_database, order.id) == order
    [event] = told(order_database, order.id)
    assert isinstance(event.data, OrderCreated)
    assert (event.data.customer_email, event.data.currency) == ("ann@example.com", "EUR")
    assert [line.sku for line in event.data.lines] == ["TEA", "CUP"]
    assert event.data.total == 2505
    assert (event.source, event.sequence, event.traceparent) == ("order", 1, TRACE)


def test_an_order_whose_transaction_fails_leaves_nothing(order_database: Sessions) -> None:
    def place_and_fail() -> None:
        with transaction(order_database) as session:
            place_in(session, PLACEMENT, key="k")
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        place_and_fail()

    with transaction(order_database) as session:
        assert session.scalar(select(func.count()).select_from(OrderRow)) == 0
        assert session.scalar(select(func.count()).select_from(outbox)) == 0


def test_reserved_stock_confirms_the_order(order_database: Sessions) -> None:
    order = place(order_database)
    event = answer(order.id, RESERVED)

    handle(order_database, event)

    assert get(order_database, order.id).status is Status.CONFIRMED
    _, confirmed = told(order_database, order.id)
    assert isinstance(confirmed.data, OrderConfirmed)
    assert (confirmed.sequence, confirmed.causationid, confirmed.traceparent) == (
        2,
        event.id,
        TRACE,
    )


def test_rejected_stock_cancels_the_order_and_the_shortages_are_passed_on(
    order_database: Sessions,
) -> None:
    order = place(order_database)

    handle(order_database, answer(order.id, REJECTED))

    found = get(order_database, order.id)
    assert (found.status, found.reason) == (Status.CANCELLED, Reason.OUT_OF_STOCK)
    _, cancelled = told(order_database, order.id)
    assert isinstance(cancelled.data, OrderCancelled)
    assert cancelled.data.reason == "out_of_stock"
    assert cancelled.data.shortages == REJECTED.shortages


def test_released_stock_changes_nothing(order_database: Sessions) -> None:
    order = place(order_database)

    handle(order_database, answer(order.id, RELEASED))

    assert get(order_database, order.id) == order
    assert len(told(order_database, order.id)) == 1


def test_a_late_reservation_changes_nothing(order_database: Sessions) -> None:
    order = place(order_database)
    cancelled = cancel(order_database, order.id)

    handle(order_database, answer(order.id, RESERVED))

    assert get(order_database, order.id) == cancelled
    assert [e.type for e in told(order_database, order.id)] == ["order.created", "order.cancelled"]


def test_an_answer_that_comes_twice_has_one_effect(order_database: Sessions) -> None:
    order = place(order_database)

    handle(order_database, answer(order.id, RESERVED))
    handle(order_database, answer(order.id, RESERVED))

    assert [e.sequence for e in told(order_database, order.id)] == [1, 2]


def test_several_events_of_one_order_can_share_a_transaction(order_database: Sessions) -> None:
    order = place(order_database)

    handle(
        order_database,
        answer(order.id, RESERVED),
        answer(order.id, RESERVED),
        answer(order.id, RELEASED),
    )

    assert get(order_database, order.id).status is Status.CONFIRMED
    assert [e.sequence for e in told(order_database, order.id)] == [1, 2]


@pytest.mark.parametrize("data", [RESERVED, REJECTED, RELEASED], ids=lambda data: data.TYPE)
def test_an_event_of_an_unknown_order_will_never_work(order_database: Sessions, data: Data) -> None:
    with pytest.raises(Permanent):
        handle(order_database, answer(uuid4(), data))


def test_the_customer_may_cancel_a_confirmed_order(order_database: Sessions) -> None:
    order = place(order_database)
    handle(order_database, answer(order.id, RESERVED))

    cancel(order_database, order.id)
    cancel(order_database, order.id)

    events = told(order_database, order.id)
    assert [e.type for e in events] == ["order.created", "order.confirmed", "order.cancelled"]
    assert [e.sequence for e in events] == [1, 2, 3]
    assert isinstance(events[-1].data, OrderCancelled)
    assert events[-1].data.reason == "customer"


def test_an_unknown_order_cannot_be_cancelled(order_database: Sessions) -> None:
    with pytest.raises(UnknownOrder):
        cancel(order_database, uuid4())


def test_confirmation_and_cancellation_at_once_tell_one_consistent_story(
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
        events = told(order_database, order.id)
        assert [e.sequence for e in events] == list(range(1, len(events) + 1))
        assert events[-1].type == "order.cancelled"
        assert get(order_database, order.id).status is Status.CANCELLED


def test_a_key_stands_for_one_order(order_database: Sessions) -> None:
    first = place(order_database, key="k")
    second = place(order_database, key="k")

    assert second == first
    assert len(told(order_database, first.id)) == 1


def test_a_key_is_not_taken_for_another_request(order_database: Sessions) -> None:
    place(order_database, key="k")
    other = Placement(customer_email="bob@example.com", currency="EUR", lines=PLACEMENT.lines)

    with transaction(order_database) as session, pytest.raises(KeyReused):
        place_in(session, other, key="k")


def test_a_key_whose_request_failed_is_free_again(order_database: Sessions) -> None:
    with order_database() as session:
        place_in(session, PLACEMENT, key="k")
        session.rollback()

    order = place(order_database, key="k")

    assert get(order_database, order.id) == order


def test_of_requests_with_one_key_at_once_all_get_the_same_order(order_database: Sessions) -> None:
    with ThreadPoolExecutor(8) as pool:
        orders = list(pool.map(lambda _: place(order_database, key="k"), range(8)))

    assert len({order.id for order in orders}) == 1
    with transaction(order_database) as session:
        assert session.scalar(select(func.count()).select_from(OrderRow)) == 1


def test_overdue_orders_are_cancelled_and_others_are_not(order_database: Sessions) -> None:
    overdue, confirmed = place(order_database, seconds=0), place(order_database, seconds=0)
    young = place(order_database)
    handle(order_database, answer(confirmed.id, RESERVED))

    with transaction(order_database) as session:
        swept = use_cases.sweep_deadlines(session, timedelta(), 100)

    assert swept == 1
    found = get(order_database, overdue.id)
    assert (found.status, found.reason) == (Status.CANCELLED, Reason.DEADLINE)
    assert get(order_database, confirmed.id).status is Status.CONFIRMED
    assert get(order_database, young.id).status is Status.PENDING
    _, event = told(order_database, overdue.id)
    assert isinstance(event.data, OrderCancelled)
    assert (event.data.reason, event.traceparent, event.sequence) == ("deadline", TRACE, 2)


def test_several_sweeps_at_once_cancel_each_order_once(order_database: Sessions) -> None:
    orders = [place(order_database, seconds=0) for _ in range(30)]

    def sweep_some() -> int:
        with transaction(order_database) as session:
            return use_cases.sweep_deadlines(session, timedelta(), 10)

    with ThreadPoolExecutor(3) as pool:
        while sum(pool.map(lambda _: sweep_some(), range(3))):
            pass

    for order in orders:
        assert [e.sequence for e in told(order_database, order.id)] == [1, 2]


def test_a_sweep_passes_over_an_order_that_somebody_holds(order_database: Sessions) -> None:
    order = place(order_database, seconds=0)

    with transaction(order_database) as session:
        use_cases.cancel(session, order.id, Reason.CUSTOMER, cause=Cause())
        session.flush()

        assert use_cases.sweep_deadlines(session, timedelta(), 10) == 0


def test_pages_show_every_order_once_newest_first(order_database: Sessions) -> None:
    placed = [place(order_database).id for _ in range(7)]

    found, after = [], None
    while True:
        with transaction(order_database) as session:
            page = use_cases.list_page(session, limit=3, after=after)
        found += [order.id for order in page.orders]
        after = page.next
        if after is None:
            break

    assert found == placed[::-1]


def test_a_full_last_page_has_no_next_page(order_database: Sessions) -> None:
    for _ in range(3):
        place(order_database)

    with transaction(order_database) as session:
        page = use_cases.list_page(session, limit=3)

    assert (len(page.orders), page.next) == (3, None)


def test_orders_are_found_by_status_and_customer(order_database: Sessions) -> None:
    pending, cancelled = place(order_database), place(order_database)
    cancel(order_database, cancelled.id)

    def found(**filters: Any) -> list[UUID]:
        with transaction(order_database) as session:
            return [o.id for o in use_cases.list_page(session, limit=10, **filters).orders]

    assert found(status=Status.PENDING) == [pending.id]
    assert found(status=Status.CONFIRMED) == []
    assert found(customer_email="ann@example.com") == [cancelled.id, pending.id]
    assert found(customer_email="bob@example.com", status=Status.PENDING) == []


def test_the_timeline_shows_own_and_foreign_events_and_who_answered(
    order_database: Sessions,
) -> None:
    order = place(order_database)
    [created] = told(order_database, order.id)
    reserved = answer(order.id, RESERVED, causation=created.id)
    handle(order_database, reserved)

    with transaction(order_database) as session:
        entries = timeline(session, order.id)

    assert [(e.type, e.source) for e in entries] == [
        ("order.created", "order"),
        ("stock.reserved", "inventory"),
        ("order.confirmed", "order"),
    ]
    assert [e.handled_by for e in entries] == [("inventory",), ("order",), ()]
    assert [e.causation_id for e in entries] == [None, created.id, reserved.id]
    assert {e.trace_id for e in entries} == {"0af7651916cd43dd8448eb211c80319c"}
    assert [e.attempts for e in entries] == [None, 1, None]
    assert entries[0].recorded_at is not None
    assert entries[0].published_at is None
    assert entries[1].handled_at is not None


def test_an_unknown_order_has_no_timeline(order_database: Sessions) -> None:
    with transaction(order_database) as session, pytest.raises(UnknownOrder):
        timeline(session, uuid4())
