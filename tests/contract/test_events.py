"""The contracts between the services: every published event can still be decoded.

A failure after a change of `common/events.py` has one of two causes. A field was renamed, removed
or retyped, which is not allowed. Or a field was added: it needs a default, a sample in
`tests/contract/samples.py` and `make docs`.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from common.events import EVENTS, Line, OrderCreated, Quantity
from eventbus.errors import InvalidEvent
from eventbus.events import codec
from tests.contract.regenerate import GOLDEN
from tests.contract.samples import SAMPLES, newest

REGENERATE = "run `make docs` and commit what it wrote"


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def golden(name: str) -> dict[str, Any]:
    return read(GOLDEN / f"{name}.json")


def test_every_event_type_has_a_sample_and_a_golden_file() -> None:
    names = {path.stem for path in GOLDEN.iterdir()}

    assert names == set(SAMPLES), REGENERATE
    assert {event.type for event in SAMPLES.values()} == set(EVENTS)


@pytest.mark.parametrize("name", SAMPLES)
def test_every_golden_event_can_still_be_decoded(name: str) -> None:
    event = codec.decode(golden(name))

    assert event == SAMPLES[name]
    # 1 equals 1.0 and True: their types must be the same too.
    assert repr(event) == repr(SAMPLES[name])


@pytest.mark.parametrize("event_type", EVENTS)
def test_an_event_is_encoded_like_its_newest_golden_file(event_type: str) -> None:
    name = newest(event_type)

    encoded = json.loads(codec.encode(SAMPLES[name]))

    assert encoded == golden(name), (
        f"the contract has changed: add its next version to tests/contract/samples.py, {REGENERATE}"
    )


@pytest.mark.parametrize("name", SAMPLES)
def test_unknown_fields_are_ignored(name: str) -> None:
    # Given an envelope in which every object has an unknown field
    envelope = golden(name)
    added = {"added_later": {"anything": [1, None]}}
    data = envelope["data"]
    for field in ("lines", "shortages", "reasons"):
        data[field] = [item | added for item in data.get(field, [])]

    # When it is decoded
    event = codec.decode(envelope | added | {"data": data | added})

    # Then the unknown fields are ignored
    assert event == SAMPLES[name]


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        (("id",), "one", "$.id"),
        (("subject",), None, "$.subject"),
        (("sequence",), "1", "$.sequence"),
        (("sequence",), 0, "$.sequence"),
        (("sequence",), True, "$.sequence"),
        (("time",), "2025-10-08T12:30:00", "$.time"),
        (("time",), 5, "$.time"),
        (("traceparent",), 5, "$.traceparent"),
        (("causationid",), "one", "$.causationid"),
        (("data",), None, "$.data"),
        (("data",), [], "$.data"),
        (("data", "customer_email"), None, "$.data.customer_email"),
        (("data", "total"), 198.0 + 0.5, "$.data.total"),
        (("data", "client_ip"), 7, "$.data.client_ip"),
        (("data", "total"), "19800", "$.data.total"),
        (("data", "lines"), {}, "$.data.lines"),
        (("data", "lines", 1, "quantity"), "1", "$.data.lines[1].quantity"),
        (("data", "lines", 0, "sku"), 7, "$.data.lines[0].sku"),
    ],
)
def test_an_error_names_the_path_of_a_wrong_type(
    path: tuple[str | int, ...], wrong: object, message: str
) -> None:
    # Given an envelope with a value of the wrong type
    envelope = golden("order.created.v1")
    place: Any = envelope
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = wrong

    # When it is decoded
    with pytest.raises(InvalidEvent) as error:
        codec.decode(envelope)

    # Then the error names the path
    assert f"at `{message}`" in str(error.value)


@pytest.mark.parametrize("name", SAMPLES)
def test_an_error_names_a_missing_field(name: str) -> None:
    for field in golden(name)["data"].keys() - {"shortages", "client_ip"}:
        # Given an envelope without a required field
        envelope = golden(name)
        del envelope["data"][field]

        # When it is decoded
        with pytest.raises(InvalidEvent) as error:
            codec.decode(envelope)

        # Then the error names the field
        assert f"missing required field `{field}`" in str(error.value)


def test_an_order_of_an_old_release_has_no_client_address() -> None:
    assert codec.decode(golden("order.created.v1")).data.client_ip is None  # type: ignore[union-attr]


def test_missing_shortages_default_to_an_empty_list() -> None:
    # Given a cancellation without shortages
    envelope = golden("order.cancelled.v1")
    del envelope["data"]["shortages"]

    # When it is decoded
    event = codec.decode(envelope)

    # Then it has no shortages
    assert event.data.shortages == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("attribute", ["specversion", "type"])
@pytest.mark.parametrize("wrong", ["0.3", None, [], {"a": 1}])
def test_an_envelope_of_another_kind_is_rejected(attribute: str, wrong: object) -> None:
    with pytest.raises(InvalidEvent, match=attribute):
        codec.decode(golden("order.created.v1") | {attribute: wrong})


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("sku", "", "length >= 1"),
        ("quantity", 0, "`int` >= 1"),
        ("unit_price", -1, "`int` >= 0"),
    ],
)
def test_an_invalid_line_is_rejected(field: str, wrong: object, message: str) -> None:
    # Given an order with an invalid line
    envelope = golden("order.created.v1")
    envelope["data"]["lines"][1][field] = wrong

    # When it is decoded
    with pytest.raises(InvalidEvent, match=message) as error:
        codec.decode(envelope)

    # Then the error names the line
    assert f"at `$.data.lines[1].{field}`" in str(error.value)


def test_an_order_without_lines_is_rejected() -> None:
    # Given an order without lines
    envelope = golden("order.created.v1")
    envelope["data"]["lines"] = []

    # Then it is rejected
    with pytest.raises(InvalidEvent, match=r"length >= 1 - at `\$.data.lines`"):
        codec.decode(envelope)


@pytest.mark.parametrize(
    ("make", "wrong", "message"),
    [
        (Line, {"sku": ""}, "sku is empty"),
        (Line, {"quantity": 0}, "quantity is below 1"),
        (Line, {"unit_price": -1}, "unit_price is below 0"),
        (Quantity, {"sku": ""}, "sku is empty"),
        (Quantity, {"quantity": 0}, "quantity is below 1"),
        (OrderCreated, {"lines": ()}, "lines is empty"),
        (Line, {"sku": "S" * 301}, "sku has more than 300 characters"),
        (Line, {"quantity": 2**31}, "quantity is above 2147483647"),
        (OrderCreated, {"total": -(2**63)}, "total is below -9223372036854775807"),
    ],
)
def test_invalid_data_cannot_be_published(
    make: type[Any], wrong: dict[str, Any], message: str
) -> None:
    # Given valid data
    right: dict[str, Any] = {"sku": "CHAIR-1", "quantity": 1}
    if make is Line:
        right |= {"unit_price": 1}
    if make is OrderCreated:
        lines = (Line(sku="CHAIR-1", quantity=1, unit_price=1),)
        right = {"customer_email": "ada@example.com", "currency": "EUR", "total": 1, "lines": lines}

    # Then the constructor rejects invalid data
    with pytest.raises(InvalidEvent, match=message):
        make(**(right | wrong))
