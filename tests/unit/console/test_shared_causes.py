"""The causes that stuck orders share are counted by orders, not by their events."""

from datetime import UTC, datetime
from typing import cast
from uuid import UUID, uuid4

from console.ledger.account import Place
from console.orders.delivery import Delivery
from console.orders.journal import Sent
from console.orders.stuck import Report, Stuck
from order_app.storage.search import Summary

AT = datetime(2026, 11, 29, 3, tzinfo=UTC)


def waits(order_id: UUID, problem: str) -> Delivery:
    """Return the delivery of a new event of an order that waits."""
    event = Sent(
        id=uuid4(),
        type="order.created",
        order_id=order_id,
        source="order",
        created_at=AT,
        sent_at=AT,
    )
    return Delivery(event=event, service="inventory", place=Place.IN_FLIGHT, problem=problem)


def stuck(*problems: str) -> Stuck:
    """Return a stuck order, with an event for each of these problems."""
    order_id = uuid4()
    # Only the deliveries are counted.
    return Stuck(
        order=cast("Summary", None), waiting=tuple(waits(order_id, each) for each in problems)
    )


def report(*orders: Stuck) -> Report:
    return Report(orders=orders, is_cut=False, problem="")


def test_several_events_of_one_order_are_not_a_shared_cause() -> None:
    assert report(stuck("paused", "paused"), stuck("down")).shared == []


def test_a_shared_cause_has_the_number_of_its_orders_and_the_first_event() -> None:
    # Given three orders that share a cause, one with two events, and two that share another
    orders = (stuck("down"), stuck("paused", "paused"), stuck("down", "paused"), stuck("paused"))

    # When the shared causes are counted
    shared = report(*orders).shared

    # Then the most frequent is first, each with the event of its oldest order
    assert [(each.delivery.problem, each.orders) for each in shared] == [("paused", 3), ("down", 2)]
    assert [each.delivery for each in shared] == [orders[1].waiting[0], orders[0].waiting[0]]
