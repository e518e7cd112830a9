"""Each kind of change of a contract is called compatible or breaking, with its place and reason."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from console.contracts.compatibility import Change, changes

SENT = "published events"
RUNNING = "running consumers"


@dataclass
class Inner:
    count: int


@dataclass
class Wider:
    count: int
    note: str = ""


@dataclass
class Renamed:
    count: int


def contract(**fields: Any) -> dict[str, Any]:
    """Return a schema with these fields: a type, or a type and its default."""
    defined = [(n, *(f if isinstance(f, tuple) else (f,))) for n, f in fields.items()]
    schema: dict[str, Any] = msgspec.json.schema(msgspec.defstruct("Contract", defined))
    return schema


def compared(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    return changes({"order.created": contract(**old)}, {"order.created": contract(**new)})


@pytest.mark.parametrize(
    ("old", "new", "path", "change", "reason"),
    [
        ({"a": int}, {}, ".a", "required field removed", RUNNING),
        ({"a": (int, 1)}, {}, ".a", "optional field removed", RUNNING),
        ({}, {"a": int}, ".a", "required field added", SENT),
        ({"a": (int, 1)}, {"a": int}, ".a", "required now", SENT),
        ({"a": int}, {"a": (int, 1)}, ".a", "optional now", RUNNING),
        ({"a": (int, 1)}, {"a": (int, 2)}, ".a", "default changed from 1 to 2", SENT),
        ({"a": int}, {"a": str}, ".a", "type changed from integer to string", SENT),
        ({"a": int}, {"a": float}, ".a", "type changed from integer to number", RUNNING),
        ({"a": int}, {"a": int | None}, ".a", "null allowed", RUNNING),
        ({"a": int | None}, {"a": int}, ".a", "null no longer allowed", SENT),
        ({"a": int | None}, {"a": str | None}, ".a", "type changed", SENT),
        ({"a": int | str}, {"a": int | str | bool}, ".a", "anyOf changed", RUNNING),
        ({"a": int | str}, {"a": int | str | None}, ".a", "null allowed", RUNNING),
        ({"a": Literal["x", "y"]}, {"a": Literal["x"]}, ".a", "value 'y' removed", SENT),
        ({"a": Literal["x"]}, {"a": Literal["x", "y"]}, ".a", "value 'y' added", RUNNING),
        ({"a": str}, {"a": Literal["x"]}, ".a", "any value no longer allowed", SENT),
        ({"a": Literal["x"]}, {"a": str}, ".a", "any value allowed", RUNNING),
        ({"a": Literal["x"]}, {"a": Literal[1]}, ".a", "type changed from string to int", SENT),
        (
            {"a": Annotated[int, Meta(ge=1)]},
            {"a": Annotated[int, Meta(ge=2)]},
            ".a",
            "minimum narrowed from 1 to 2",
            SENT,
        ),
        (
            {"a": Annotated[int, Meta(ge=2)]},
            {"a": Annotated[int, Meta(ge=1)]},
            ".a",
            "minimum widened from 2 to 1",
            RUNNING,
        ),
        (
            {"a": int},
            {"a": Annotated[int, Meta(le=9)]},
            ".a",
            "maximum narrowed from none to 9",
            SENT,
        ),
        (
            {"a": Annotated[str, Meta(max_length=9)]},
            {"a": Annotated[str, Meta(max_length=8)]},
            ".a",
            "maxLength narrowed from 9 to 8",
            SENT,
        ),
        (
            {"a": Annotated[str, Meta(max_length=9)]},
            {"a": str},
            ".a",
            "maxLength widened from 9 to none",
            RUNNING,
        ),
        (
            {"a": Annotated[tuple[int, ...], Meta(min_length=1)]},
            {"a": tuple[int, ...]},
            ".a",
            "minItems widened from 1 to none",
            RUNNING,
        ),
        ({"a": str}, {"a": Annotated[str, Meta(pattern="x")]}, ".a", "pattern changed", SENT),
        ({"a": tuple[int, int]}, {"a": tuple[int, str]}, ".a", "prefixItems changed", SENT),
        ({"a": tuple[int, ...]}, {"a": tuple[str, ...]}, ".a[]", "type changed", SENT),
        ({"a": dict[str, int]}, {"a": dict[str, str]}, ".a[*]", "type changed", SENT),
        ({"a": Inner}, {"a": Inner | None}, ".a", "null allowed", RUNNING),
    ],
)
def test_a_breaking_change_has_a_path_and_a_reason(
    old: dict[str, Any], new: dict[str, Any], path: str, change: str, reason: str
) -> None:
    (difference,) = compared(old, new)

    assert difference.breaking
    assert (difference.contract, difference.path) == ("order.created", f"$.data{path}")
    assert difference.change.startswith(change)
    assert reason in difference.reason


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ({}, {"a": (int, 1)}, ".a"),
        ({}, {"a": (int | None, None)}, ".a"),
        ({"a": Inner}, {"a": Wider}, ".a.note"),
        ({"a": Inner | None}, {"a": Wider | None}, ".a.note"),
        ({"a": tuple[Inner, ...]}, {"a": tuple[Wider, ...]}, ".a[].note"),
    ],
)
def test_an_optional_field_may_be_added_at_any_depth(
    old: dict[str, Any], new: dict[str, Any], path: str
) -> None:
    (difference,) = compared(old, new)

    assert not difference.breaking
    assert (difference.path, difference.change) == (f"$.data{path}", "optional field added")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": Inner}, {"a": Renamed}),
        ({"a": int}, {"a": Annotated[int, Meta(description="How many.", title="A")]}),
        ({"a": int, "b": str}, {"b": str, "a": int}),
        ({"description": int}, {"description": Annotated[int, Meta(description="How many.")]}),
    ],
)
def test_documentation_is_not_a_change_of_the_contract(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    assert compared(old, new) == []


def test_a_field_can_have_the_name_of_a_keyword() -> None:
    (difference,) = compared({"description": int}, {"description": str})

    assert difference.path == "$.data.description"


def test_a_change_below_an_optional_object_is_found() -> None:
    differences = compared({"a": Wider}, {"a": Inner | None})

    assert [(c.path, c.change) for c in differences] == [
        ("$.data.a", "null allowed"),
        ("$.data.a.note", "optional field removed"),
    ]


def test_a_recursive_type_is_compared_once() -> None:
    # Given a schema that refers to itself
    def tree(size: dict[str, str]) -> dict[str, Any]:
        node = {"type": "object", "properties": {"size": size, "next": {"$ref": "#/$defs/Node"}}}
        return {"$ref": "#/$defs/Node", "$defs": {"Node": node}}

    # When two versions of it are compared
    differences = changes({"a.b": tree({"type": "string"})}, {"a.b": tree({"type": "integer"})})

    # Then the change is reported once
    assert [change.path for change in differences] == ["$.data.size"]


def test_adding_an_event_type_is_compatible_and_removing_it_is_not() -> None:
    differences = changes({"order.created": contract()}, {"order.created.v2": contract()})

    assert [(c.contract, c.change, c.breaking) for c in differences] == [
        ("order.created", "event type removed", True),
        ("order.created.v2", "event type added", False),
    ]


def test_a_path_in_the_envelope_starts_at_its_root() -> None:
    (difference,) = changes({"envelope": contract()}, {"envelope": contract(a=int)})

    assert difference.path == "$.a"
