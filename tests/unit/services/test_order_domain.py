"""The transitions of an order, as pure functions."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from order_app import domain
from order_app.domain import Draft, Line, Order, Reason, Status

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def an_order() -> Order:
    draft = Draft(
        id=UUID(int=1),
        customer_email="ann@example.com",
        currency="EUR",
        lines=(
            Line(sku="TEA", quantity=2, unit_price=1250),
            Line(sku="CUP", quantity=1, unit_price=5),
        ),
    )
    return domain.place(draft, created_at=NOW, deadline_at=NOW + timedelta(seconds=900))


def confirmed() -> Order:
    return domain.confirm(an_order(), now=NOW)


def cancelled(reason: Reason) -> Order:
    return domain.cancel(an_order(), reason, now=NOW)


def test_a_new_order_is_pending_until_its_deadline() -> None:
    order = an_order()

    assert order.status is Status.PENDING
    assert order.reason is None
    assert order.decided_at is None
    assert order.deadline_at == NOW + timedelta(minutes=15)


def test_the_total_is_the_sum_of_the_lines() -> None:
    assert an_order().total == 2 * 1250 + 5


def test_a_pending_order_can_be_confirmed() -> None:
    order = domain.confirm(an_order(), now=LATER)

    assert (order.status, order.reason, order.decided_at) == (Status.CONFIRMED, None, LATER)


@pytest.mark.parametrize("reason", Reason)
def test_a_pending_order_can_be_cancelled_for_every_reason(reason: Reason) -> None:
    order = domain.cancel(an_order(), reason, now=LATER)

    assert (order.status, order.reason, order.decided_at) == (Status.CANCELLED, reason, LATER)


@pytest.mark.parametrize("reason", [Reason.CUSTOMER, Reason.OPERATOR])
def test_a_customer_and_an_operator_can_cancel_a_confirmed_order(reason: Reason) -> None:
    order = domain.cancel(confirmed(), reason, now=LATER)

    assert (order.status, order.reason) == (Status.CANCELLED, reason)
    assert order.decided_at == LATER


@pytest.mark.parametrize("reason", [Reason.OUT_OF_STOCK, Reason.DEADLINE])
def test_no_other_reason_cancels_a_confirmed_order(reason: Reason) -> None:
    order = confirmed()

    assert domain.cancel(order, reason, now=LATER) is order


@pytest.mark.parametrize("reason", Reason)
def test_a_late_reservation_does_not_revive_a_cancelled_order(reason: Reason) -> None:
    order = cancelled(reason)

    assert domain.confirm(order, now=LATER) is order


@pytest.mark.parametrize("first", Reason)
@pytest.mark.parametrize("second", Reason)
def test_a_cancelled_order_keeps_its_first_reason(first: Reason, second: Reason) -> None:
    order = cancelled(first)

    assert domain.cancel(order, second, now=LATER) is order


def test_a_confirmed_order_can_be_shipped() -> None:
    order = domain.ship(confirmed(), now=LATER)

    assert (order.status, order.shipped_at) == (Status.SHIPPED, LATER)
    assert (order.reason, order.decided_at) == (None, NOW)


@pytest.mark.parametrize("order", [an_order(), *map(cancelled, Reason)], ids=lambda o: o.status)
def test_an_unconfirmed_order_cannot_be_shipped(order: Order) -> None:
    assert domain.ship(order, now=LATER) is order


@pytest.mark.parametrize("reason", Reason)
def test_a_shipped_order_does_not_change(reason: Reason) -> None:
    order = domain.ship(confirmed(), now=NOW)

    assert domain.ship(order, now=LATER) is order
    assert domain.cancel(order, reason, now=LATER) is order
    assert domain.confirm(order, now=LATER) is order


def test_a_second_confirmation_changes_nothing() -> None:
    order = confirmed()

    assert domain.confirm(order, now=LATER) is order


@given(st.lists(st.sampled_from(["confirm", "ship", *Reason]), max_size=8))
def test_any_sequence_of_events_ends_on_one_of_five_paths(events: list[str]) -> None:
    order, way = an_order(), [Status.PENDING]

    for event in events:
        before = order
        if event == "confirm":
            order = domain.confirm(order, now=LATER)
        elif event == "ship":
            order = domain.ship(order, now=LATER)
        else:
            order = domain.cancel(order, Reason(event), now=LATER)
        if order is not before:
            way.append(order.status)

    assert way in (
        [Status.PENDING],
        [Status.PENDING, Status.CONFIRMED],
        [Status.PENDING, Status.CANCELLED],
        [Status.PENDING, Status.CONFIRMED, Status.CANCELLED],
        [Status.PENDING, Status.CONFIRMED, Status.SHIPPED],
    )
    assert (order.shipped_at is not None) == (order.status is Status.SHIPPED)
    assert (order.reason is not None) == (order.status is Status.CANCELLED)
    assert (order.decided_at is None) == (order.status is Status.PENDING)
