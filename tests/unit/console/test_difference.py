"""The difference between two payloads, and the values that a path names."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.errors import ActionError
from console.parking.difference import LIMIT, ROOT, difference, unknown, with_value

PAYLOAD: dict[str, Any] = {
    "total": 1,
    "lines": [{"sku": "TEA", "quantity": 1}],
    "x y": {"empty": []},
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=2),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("assignment", "changes"),
    [
        ("data.total=2", ["$.data.total: 1 → 2"]),
        ("$.data.total=true", ["$.data.total: 1 → true"]),
        ("data.total=1.0", ["$.data.total: 1 → 1.0"]),
        ("data.lines[0].quantity=2", ["$.data.lines[0].quantity: 1 → 2"]),
        ("data.lines[1]={}", ["$.data.lines[1]: (missing) → {}"]),
        ('data.lines[1]={"sku": "KETTLE"}', ['$.data.lines[1].sku: (missing) → "KETTLE"']),
        ('data["x y"].empty=1', ['$.data["x y"].empty: [] → 1']),
        (r'data["a\"b"]=1', [r'$.data["a\"b"]: (missing) → 1']),
        ("data.new=null", ["$.data.new: (missing) → null"]),
        ("data.total=1", []),
    ],
)
def test_a_value_is_replaced_or_added_by_its_path(assignment: str, changes: list[str]) -> None:
    edited = with_value(deepcopy(PAYLOAD), assignment)

    assert [str(change) for change in difference(PAYLOAD, edited)] == changes


@pytest.mark.parametrize(
    "assignment",
    [
        *("", "data", "data.", "data.total", "id=1", "source=1", "data.total.x=1", "data[0]=1"),
        *("data.lines[2]=1", "data.lines.x=1", "data.lines[-1]=1", "data.none.x=1", "data.total="),
        *("data.total=x", "datax=1", "xdata=1", "$data=1", 'data["a]=1', "data=[", "data..a=1"),
        "data.total=" + "[" * 100_000,
    ],
)
def test_an_invalid_assignment_is_named(assignment: str) -> None:
    payload = deepcopy(PAYLOAD)

    with pytest.raises(ActionError):
        with_value(payload, assignment)

    assert payload == PAYLOAD


@given(JSON, JSON)
def test_payloads_without_a_difference_are_equal(old: object, new: object) -> None:
    # Then the difference is empty if and only if both have the same JSON
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert (difference(old, new) == ()) is same


@given(JSON)
def test_each_change_of_a_whole_payload_is_named(payload: object) -> None:
    changes = difference({}, {"added": payload})

    assert all(change.path.startswith(f"{ROOT}") for change in changes)
    assert changes


def test_the_number_of_changes_and_the_length_of_paths_are_limited() -> None:
    with pytest.raises(ActionError, match=f"at most {LIMIT}"):
        difference([], list(range(LIMIT + 1)))
    deep = json.loads("[" * 900 + "]" * 900)
    with pytest.raises(ActionError, match="the path has more than"):
        difference(deep, {})
    with pytest.raises(ActionError, match="the path has more than"):
        difference({"x" * 1_000: 1}, {})


def test_new_values_that_are_not_in_the_contract_are_unknown() -> None:
    edited = with_value(with_value(deepcopy(PAYLOAD), "data.colour=1"), "data.total=2")

    changes = difference(PAYLOAD, edited)

    assert unknown(changes, PAYLOAD | {"total": 2}) == ("$.data.colour",)
