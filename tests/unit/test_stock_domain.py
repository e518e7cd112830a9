"""An order gets everything it asks for, or nothing."""

from hypothesis import given
from hypothesis import strategies as st

from inventory_worker.domain import Rejected, Reserved, Shortage, Wanted, reserve

SKUS = st.sampled_from(["A", "B", "C", "D"])
STOCK = st.dictionaries(SKUS, st.integers(0, 20))
LINES = st.lists(st.builds(Wanted, SKUS, st.integers(1, 15)), min_size=1, max_size=8)


def test_an_order_that_fits_is_reserved_completely() -> None:
    outcome = reserve({"A": 5, "B": 1}, [Wanted("B", 1), Wanted("A", 5)])

    assert outcome == Reserved({"A": 5, "B": 1})


def test_one_short_line_rejects_the_whole_order() -> None:
    outcome = reserve({"A": 5, "B": 1}, [Wanted("A", 1), Wanted("B", 2)])

    assert outcome == Rejected((Shortage("B", requested=2, available=1),))


def test_lines_of_one_sku_count_together() -> None:
    outcome = reserve({"A": 5}, [Wanted("A", 3), Wanted("A", 3)])

    assert outcome == Rejected((Shortage("A", requested=6, available=5),))


def test_an_unknown_sku_is_short_with_nothing_available() -> None:
    outcome = reserve({}, [Wanted("NOPE", 1)])

    assert outcome == Rejected((Shortage("NOPE", requested=1, available=0),))


@given(STOCK, LINES)
def test_an_order_is_reserved_exactly_when_all_of_it_is_there(
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
def test_any_sequence_of_orders_leaves_nothing_below_zero(
    stock: dict[str, int], orders: list[list[Wanted]]
) -> None:
    for lines in orders:
        outcome = reserve(stock, lines)
        if isinstance(outcome, Reserved):
            for sku, quantity in outcome.quantities.items():
                stock[sku] -= quantity

    assert all(available >= 0 for available in stock.values())
