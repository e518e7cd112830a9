"""The target of a request may contain any text, and each request has an answer with a reason."""

import json
from urllib.parse import unquote

import pytest

from testkit.network.raw_http import ORDER, RawClient
from testkit.processes.stack import Stack


@pytest.fixture(scope="module")
def api(shared_stack: Stack) -> Stack:
    """An API with the default settings."""
    shared_stack.start("api")
    return shared_stack


@pytest.fixture
def client(api: Stack) -> RawClient:
    """A client whose key has every scope."""
    return RawClient(api.ports.api_port, api.api_key)


@pytest.mark.parametrize(
    "name", ["łukasz", "jürgen", "%C5%82ukasz", "j%C3%BCrgen", "\N{SNOWMAN}", "%E2%98%83"]
)
def test_a_query_in_utf_8_is_read_with_and_without_escapes(client: RawClient, name: str) -> None:
    # Given a customer whose address is not ASCII
    email = f"{unquote(name)}@example.com"
    order = json.dumps(json.loads(ORDER) | {"customer": {"email": email}})
    placed = client.place(body=order)
    assert placed.status == 201

    # When the customer's orders are listed
    listed = client.send(client.head(f"GET /orders?email={name}@example.com"))

    # Then the order is found
    assert listed.status == 200
    assert placed.document["id"] in [found["id"] for found in listed.document["orders"]]


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize(
    "target",
    [
        "/orders?email=\N{EURO SIGN}",
        "/orders?\N{EURO SIGN}=1",
        "/orders/\N{EURO SIGN}",
        "/orders/%FF",
        "/orders?email=%FF",
        "/orders?cursor=\N{EURO SIGN}",
        "/\N{EURO SIGN}",
        "*",
    ],
)
def test_any_target_has_an_answer_with_a_reason(api: Stack, target: str, key: bool) -> None:
    client = RawClient(api.ports.api_port, api.api_key if key else "")

    response = client.send(client.head(f"GET {target}"))

    assert response.status in {401, 404, 422}
    assert response.document["title"]


def test_a_target_that_is_not_utf_8_is_rejected(client: RawClient) -> None:
    raw = client.head("GET /orders?email=X").replace(b"X", b"\xfc")

    assert client.send(raw).status == 400
