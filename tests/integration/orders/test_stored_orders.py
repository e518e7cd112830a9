"""Orders as the use cases store and find them: idempotency keys, listings and timelines."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from common.events import OrderCreated
from eventbus.database.db import Sessions, transaction
from eventbus.outbox.table import outbox
from order_app.domain import Status
from order_app.storage import search
from order_app.storage.models import OrderRow
from order_app.storage.pages import page
from order_app.storage.timeline import timeline
from testkit.data.order_service import (
    PLACEMENT,
    RESERVED,
    TRACE,
    answer,
    cancel,
    get,
    handle,
    place,
    place_in,
)
from testkit.data.outbox_events import outbox_events


def test_an_order_and_its_event_are_stored_together(order_database: Sessions) -> None:
    order = place(order_database)

    assert get(order_database, order.id) == order
    [event] = outbox_events(order_database, order.id)
    assert isinstance(event.data, OrderCreated)
    assert (event.data.customer_email, event.data.currency) == ("ann@example.com", "EUR")
    assert [line.sku for line in event.data.lines] == ["TEA", "CUP"]
    assert event.data.total == 2505
    assert (event.source, event.sequence, event.traceparent) == ("order", 1, TRACE)


def test_a_failed_transaction_stores_no_order_and_no_event(order_database: Sessions) -> None:
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


def test_an_idempotency_key_identifies_one_order(order_database: Sessions) -> None:
    first = place(order_database, key="k")
    second = place(order_database, key="k")

    assert second == first
    assert len(outbox_events(order_database, first.id)) == 1


def test_the_idempotency_key_of_a_failed_request_can_be_reused(order_database: Sessions) -> None:
    with order_database() as session:
        place_in(session, PLACEMENT, key="k")
        session.rollback()

    order = place(order_database, key="k")

    assert get(order_database, order.id) == order


def test_concurrent_requests_with_one_key_place_one_order(order_database: Sessions) -> None:
    with ThreadPoolExecutor(8) as pool:
        orders = list(pool.map(lambda _: place(order_database, key="k"), range(8)))

    assert len({order.id for order in orders}) == 1
    with transaction(order_database) as session:
        assert session.scalar(select(func.count()).select_from(OrderRow)) == 1


def test_a_full_last_page_has_no_next_page(order_database: Sessions) -> None:
    for _ in range(3):
        place(order_database)

    with transaction(order_database) as session:
        whole = page(session, limit=3)

    assert (len(whole.orders), whole.next) == (3, None)


def test_orders_are_found_by_status_and_customer(order_database: Sessions) -> None:
    pending, cancelled = place(order_database), place(order_database)
    cancel(order_database, cancelled.id)

    def listed(**filters: Any) -> list[UUID]:
        with transaction(order_database) as session:
            return [o.id for o in page(session, limit=10, **filters).orders]

    assert listed(status=Status.PENDING) == [pending.id]
    assert listed(status=Status.CONFIRMED) == []
    assert listed(customer_email="ann@example.com") == [cancelled.id, pending.id]
    assert listed(customer_email="bob@example.com", status=Status.PENDING) == []


def test_a_search_of_many_orders_continues_on_the_next_page(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a customer with more orders than one page examines, of which the oldest is cancelled
    monkeypatch.setattr(search, "SCANNED", 2)
    orders = [place(order_database) for _ in range(5)]
    cancel(order_database, orders[0].id)
    filters = {"status": Status.CANCELLED, "customer_email": "ann@example.com"}

    # When all pages are read
    pages = list[list[UUID]]()
    after = None
    while not pages or after:
        with transaction(order_database) as session:
            some = page(session, limit=10, after=after, **filters)
        pages.append([order.id for order in some.orders])
        after = some.next

    # Then the order is on the last page
    assert pages == [[], [], [orders[0].id]]


def test_the_timeline_shows_the_handlers_of_each_event(
    order_database: Sessions,
) -> None:
    order = place(order_database)
    [created] = outbox_events(order_database, order.id)
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
