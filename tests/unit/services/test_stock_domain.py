"""An order reserves all of its lines, or none of them."""

from hypothesis import given
from hypothesis import strategies as st

from inventory_worker.domain import (
    Change,
    Rejected,
    Reservation,
    Reserved,
    Shortage,
    Status,
    Wanted,
    cancel,
    changes,
    reserve,
    ship,
)

SKUS = st.sampled_from(["A", "B", "C", "D"])
WANTED = [Wanted("A", 2)]
HELD = Reservation(status=Status.RESERVED, sequence=1, quantities={"A": 2})
STOCK = st.dictionaries(SKUS, st.integers(0, 20))
LINES = st.lists(st.builds(Wanted, SKUS, st.integers(1, 15)), min_size=1, max_size=8)


def test_an_order_that_fits_is_reserved_completely() -> None:
    outcome = reserve({"A": 5, "B": 1}, [Wanted("B", 1), Wanted("A", 5)])

    assert outcome == Reserved({"A": 5, "B": 1})


def test_one_short_line_rejects_the_whole_order() -> None:
    outcome = reserve({"A": 5, "B": 1}, [Wanted("A", 1), Wanted("B", 2)])

    assert outcome == Rejected((Shortage("B", requested=2, available=1),))


def test_lines_of_one_sku_are_added_up() -> None:
    outcome = reserve({"A": 5}, [Wanted("A", 3), Wanted("A", 3)])

    assert outcome == Rejected((Shortage("A", requested=6, available=5),))


def test_an_unknown_sku_is_short_with_nothing_available() -> None:
    outcome = reserve({}, [Wanted("NOPE", 1)])

    assert outcome == Rejected((Shortage("NOPE", requested=1, available=0),))


@given(STOCK, LINES)
def test_an_order_is_reserved_only_if_all_lines_are_available(
    stock: dict[str, int], lines: list[Wanted]
) -> None:
    outcome = reserve(stock, lines)

    wanted = {sku: sum(w.quantity for w in lines if w.sku == sku) for sku in {w.sku for w in lines}}
    short = {sku for sku, quantity in wanted.items() if quantity > stock.get(sku, 0)}
    if isinstance(outcome, Reserved):
        assert not short
        assert outcome.quantities == wanted
    else:
        assert {shortage.sku for shortage in outcome.shortages} == short
        assert all(s.requested == wanted[s.sku] > s.available for s in outcome.shortages)


@given(STOCK, st.lists(LINES, max_size=10))
def test_stock_never_becomes_negative(stock: dict[str, int], orders: list[list[Wanted]]) -> None:
    for lines in orders:
        outcome = reserve(stock, lines)
        if isinstance(outcome, Reserved):
            for sku, quantity in outcome.quantities.items():
                stock[sku] -= quantity

    assert all(available >= 0 for available in stock.values())


def test_negative_stock_is_reported_as_zero() -> None:
    # A stock count can be below the reserved quantity.
    outcome = reserve({"A": -3}, [Wanted("A", 1)])

    assert outcome == Rejected((Shortage("A", requested=1, available=0),))


def test_a_cancelled_order_releases_what_it_holds() -> None:
    released = cancel(HELD)

    assert (released.status, released.sequence) == (Status.RELEASED, 2)
    assert list(changes(HELD, released)) == [Change("A", on_hand=0, reserved=-2)]


def test_a_shipped_order_takes_what_it_holds() -> None:
    shipped = ship(HELD, [])

    assert (shipped.status, shipped.sequence) == (Status.SHIPPED, 1)
    assert list(changes(HELD, shipped)) == [Change("A", on_hand=-2, reserved=-2)]


def test_a_shipment_without_a_reservation_reduces_stock() -> None:
    for before in (None, Reservation(status=Status.REJECTED), cancel(None), cancel(HELD)):
        shipped = ship(before, WANTED)

        assert shipped.status is Status.SHIPPED
        assert list(changes(before, shipped)) == [Change("A", on_hand=-2, reserved=0)]


def test_a_shipped_order_changes_no_stock_again() -> None:
    shipped = ship(HELD, WANTED)

    for again in (cancel(shipped), ship(shipped, WANTED)):
        assert again == shipped
        assert list(changes(shipped, again)) == []


HAPPENINGS = st.lists(st.sampled_from(["create", "cancel", "ship"]), max_size=6)


@given(HAPPENINGS)
def test_the_stock_level_does_not_depend_on_the_order_of_events(events: list[str]) -> None:
    reservation, on_hand, reserved = None, 10, 0
    for event in events:
        before = reservation
        if event == "create":
            reservation = before or HELD
        else:
            reservation = cancel(before) if event == "cancel" else ship(before, WANTED)
        for change in changes(before, reservation):
            on_hand, reserved = on_hand + change.on_hand, reserved + change.reserved

    left = 2 if "ship" in events else 0
    held = 2 if events and set(events) == {"create"} else 0
    assert (on_hand, reserved) == (10 - left, held)
