"""Orders that the API accepts or rejects, and requests that are repeated."""

import json
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from testkit.processes.order_requests import a_line, an_order, place, problem, wrong_fields


def post(api: FlaskClient, body: bytes, content_type: str = "application/json") -> TestResponse:
    return api.post("/orders", data=body, content_type=content_type)


def test_a_placed_order_is_pending_and_can_be_read(order_api: FlaskClient) -> None:
    response = place(order_api)

    assert response.status_code == 201
    order = response.get_json()
    assert response.headers["Location"] == f"/orders/{order['id']}"
    assert order | {"id": "", "created_at": "", "deadline_at": ""} == {
        "id": "",
        "status": "PENDING",
        "reason": None,
        "customer": {"email": "ann@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "TEA", "quantity": 2, "unit_price": 1250}],
        "total": 2500,
        "created_at": "",
        "decided_at": None,
        "shipped_at": None,
        "deadline_at": "",
    }
    assert UUID(order["id"]).version == 7
    read = order_api.get(response.headers["Location"])
    assert (read.status_code, read.get_json()) == (200, order)


def test_an_email_address_is_normalized(order_api: FlaskClient) -> None:
    response = place(order_api, an_order(customer={"email": "Ann@EXAMPLE.com"}))

    assert response.get_json()["customer"] == {"email": "Ann@example.com"}
    assert len(order_api.get("/orders?email=Ann@Example.COM").get_json()["orders"]) == 1


def test_the_largest_order_is_accepted(order_api: FlaskClient) -> None:
    lines = [a_line(sku=f"A{i:063}", quantity=10_000, unit_price=10**12) for i in range(100)]

    response = place(order_api, an_order(lines=lines))

    assert response.status_code == 201
    assert response.get_json()["total"] == 100 * 10_000 * 10**12


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"customer": None}, "customer"),
        ({"customer": "ann@example.com"}, "customer"),
        ({"customer": {}}, "customer.email"),
        ({"customer": {"email": 5}}, "customer.email"),
        ({"customer": {"email": "ann"}}, "customer.email"),
        ({"customer": {"email": "a\x00@example.com"}}, "customer.email"),
        ({"customer": {"email": "\ud800@example.com"}}, "customer.email"),
        ({"customer": {"email": "a" * 60 + "@" + "b." * 100 + "com"}}, "customer.email"),
        ({"customer": {"email": "a@example.com", "name": "Ann"}}, "customer.name"),
        ({"currency": "eur"}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": 978}, "currency"),
        ({"lines": []}, "lines"),
        ({"lines": {}}, "lines"),
        ({"lines": [None]}, "lines[0]"),
        ({"lines": [a_line(sku=f"A{i}") for i in range(101)]}, "lines"),
        ({"lines": [a_line(), a_line(sku="B"), a_line(quantity=1)]}, "lines"),
        ({"lines": [a_line(sku="")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="-A")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="A\n")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="A\x00")]}, "lines[0].sku"),
        ({"lines": [a_line(sku="A" * 65)]}, "lines[0].sku"),
        ({"lines": [a_line(sku=1)]}, "lines[0].sku"),
        ({"lines": [a_line(quantity=0)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=-1)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=10_001)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity="3")]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=3.0)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=True)]}, "lines[0].quantity"),
        ({"lines": [a_line(quantity=None)]}, "lines[0].quantity"),
        ({"lines": [a_line(), a_line(sku="B", unit_price=-1)]}, "lines[1].unit_price"),
        ({"lines": [a_line(unit_price=10**12 + 1)]}, "lines[0].unit_price"),
        ({"lines": [a_line(unit_price=10**400)]}, "lines[0].unit_price"),
        ({"lines": [a_line(colour="green")]}, "lines[0].colour"),
        ({"note": "quickly"}, "note"),
    ],
)
def test_a_rejected_order_names_the_wrong_field(
    order_api: FlaskClient, changes: dict[str, Any], field: str
) -> None:
    assert wrong_fields(place(order_api, an_order(**changes))) == {field}


def test_a_rejected_order_names_the_lines_of_a_repeated_sku(order_api: FlaskClient) -> None:
    body = an_order(lines=[a_line(), a_line(sku="B"), a_line()])

    [error] = problem(place(order_api, body), 422)["errors"]

    assert error["message"] == "lines[2] has the same SKU as lines[0]"


def test_a_rejected_order_names_every_missing_field(order_api: FlaskClient) -> None:
    assert wrong_fields(place(order_api, {})) == {"customer", "currency", "lines"}


def test_a_rejected_order_names_at_most_20_fields(order_api: FlaskClient) -> None:
    body = an_order(**{f"field{i}": 1 for i in range(2_000)})

    assert len(problem(place(order_api, body), 422)["errors"]) == 20


_GOOD = json.dumps(an_order())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b'{"customer":', 400),
        (b"\xff", 400),
        (_GOOD.encode("utf-16"), 400),
        (b"\xef\xbb\xbf" + _GOOD.encode(), 400),
        (b"[" * 60_000, 400),
        (b'{"lines":' + b"[" * 30_000 + b"]" * 30_000 + b"}", 400),
        (_GOOD.replace("1250", "NaN").encode(), 400),
        (_GOOD.replace("1250", "Infinity").encode(), 400),
        (_GOOD.replace("1250", "9" * 5_000).encode(), 400),
        (b'{"\\ud800": 1}', 400),
        (b"null", 422),
        (b"[]", 422),
        (json.dumps(_GOOD).encode(), 422),
    ],
)
def test_a_body_that_is_not_a_json_object_is_rejected(
    order_api: FlaskClient, body: bytes, status: int
) -> None:
    assert wrong_fields(post(order_api, body), status) == {"body"}


def test_a_repeated_field_is_rejected(order_api: FlaskClient) -> None:
    body = _GOOD.replace('"currency"', '"currency": "USD", "currency"').encode()

    assert wrong_fields(post(order_api, body), 400) == {"currency"}


def test_a_body_above_the_limit_is_rejected(order_api: FlaskClient) -> None:
    assert post(order_api, _GOOD.encode().ljust(64 * 1024)).status_code == 201
    assert wrong_fields(post(order_api, _GOOD.encode().ljust(64 * 1024 + 1)), 413) == {"body"}


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"],
)
def test_another_content_type_is_rejected(order_api: FlaskClient, content_type: str) -> None:
    assert wrong_fields(post(order_api, _GOOD.encode(), content_type), 415) == {"Content-Type"}


def test_a_repeated_request_returns_the_same_order(order_api: FlaskClient) -> None:
    first = place(order_api, Idempotency_Key="k1")
    second = place(order_api, Idempotency_Key="k1")

    assert "Idempotency-Replayed" not in first.headers
    assert second.status_code == 201
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert second.get_json() == first.get_json()
    assert len(order_api.get("/orders").get_json()["orders"]) == 1


def test_each_request_without_a_key_places_an_order(order_api: FlaskClient) -> None:
    assert place(order_api).get_json()["id"] != place(order_api).get_json()["id"]


def test_an_idempotency_key_with_another_body_is_rejected(order_api: FlaskClient) -> None:
    place(order_api, Idempotency_Key="k1")

    response = place(order_api, an_order(currency="USD"), Idempotency_Key="k1")

    assert wrong_fields(response) == {"Idempotency-Key"}


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, "é", "a\tb"])
def test_an_invalid_idempotency_key_is_rejected(order_api: FlaskClient, key: str) -> None:
    assert wrong_fields(place(order_api, Idempotency_Key=key)) == {"Idempotency-Key"}


def test_the_longest_idempotency_key_is_accepted(order_api: FlaskClient) -> None:
    assert place(order_api, Idempotency_Key="~" * 255).status_code == 201
