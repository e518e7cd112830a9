"""Orders are cancelled and shipped in the web console, through the order API."""

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from common.kombu_topology import CONSOLE, ORDER
from console.access import audit
from console.databases.service_database import transaction
from console.orders import order_api
from console.settings import ConsoleSettings, DatabaseSettings
from console.web.app import create_app
from eventbus.outbox.table import outbox
from order_app.domain import Order
from order_app.storage import api_keys
from order_app.storage.api_keys import Scope
from order_app.storage.models import CancellationRow, OrderRow, ShipmentRow
from testkit.processes.served_api import served, served_api
from testkit.processes.web_console import confirm, get, place

NOW = datetime.now(UTC)
CONFIRMED = {"status": "CONFIRMED", "decided_at": NOW, "sequence": 2}
SHIPPED = {**CONFIRMED, "status": "SHIPPED", "shipped_at": NOW}

#: Consoles by the address of the API, with the key that the database contains.
ConsoleOf = Callable[[str], FlaskClient]


@pytest.fixture
def database(installation: Callable[[], DatabaseSettings]) -> DatabaseSettings:
    """The databases of the system."""
    return installation()


@pytest.fixture
def console_of(database: DatabaseSettings, console_settings: dict[str, Any]) -> ConsoleOf:
    """A function that returns a console for the API at an address."""
    with transaction(database, ORDER) as session:
        key = api_keys.create(session, "console", [Scope.OPERATE])

    def make(url: str) -> FlaskClient:
        settings = console_settings | {"order_api_url": url, "order_api_key": key}
        return create_app(ConsoleSettings(**settings)).test_client()

    return make


@pytest.fixture
def console(database: DatabaseSettings, console_of: ConsoleOf) -> Iterator[FlaskClient]:
    """A console, and the API that it uses."""
    with served_api(database) as url:
        yield console_of(url)


def an_order(database: DatabaseSettings, **values: object) -> UUID:
    order_id = place(database)
    if values:
        with transaction(database, ORDER) as session:
            session.execute(update(OrderRow).where(OrderRow.id == order_id).values(**values))
    return order_id


def read(database: DatabaseSettings, order_id: UUID) -> Order:
    with transaction(database, ORDER) as session:
        return session.get_one(OrderRow, order_id).to_domain()


def cancel(console: FlaskClient, order_id: UUID, reason: str = "the customer called") -> Any:
    return confirm(console, f"/orders/{order_id}/cancel", fields={"reason": reason})


def ship(console: FlaskClient, order_id: UUID) -> Any:
    return confirm(console, f"/orders/{order_id}/ship")


def recorded(database: DatabaseSettings, order_id: UUID) -> list[tuple[object, ...]]:
    with transaction(database, CONSOLE) as session:
        lines = [line for line in audit.newest(session) if line.subject == str(order_id)]
    return [(x.person, x.action, x.outcome, x.detail) for x in reversed(lines)]


def test_an_order_is_cancelled_once_with_its_reason_and_operator(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given the page of an order, which links to the cancellation
    order_id = an_order(database)
    assert f'href="/orders/{order_id}/cancel"' in get(console, "/orders", id=str(order_id)).text

    # When an operator sends the form twice
    first, again = cancel(console, order_id), cancel(console, order_id, "a second click")

    # Then the order is cancelled once, for the first reason
    assert (first.status_code, first.location) == (303, f"/orders?id={order_id}")
    assert again.status_code == 303
    assert read(database, order_id).reason == "operator"
    with transaction(database, ORDER) as session:
        row = session.get_one(CancellationRow, order_id)
        assert (row.cancelled_by, row.reason) == ("operator", "the customer called")
    # And its page has the reason and the operator, and no further action
    html = get(console, "/orders", id=str(order_id)).text
    assert f"Order {order_id}: CANCELLED" in html
    assert "<dd>operator: the customer called</dd>" in html
    assert f"/orders/{order_id}/" not in html
    # And the audit log has who, what and why
    assert recorded(database, order_id)[:2] == [
        ("operator", "orders.cancel", "begun", "reason: the customer called"),
        ("operator", "orders.cancel", "done", f"Order {order_id}: CANCELLED"),
    ]


def test_an_order_is_shipped_once_with_its_operator(
    console: FlaskClient, database: DatabaseSettings
) -> None:
    # Given a confirmed order
    order_id = an_order(database, **CONFIRMED)

    # When an operator ships it twice
    assert [ship(console, order_id).status_code for _ in range(2)] == [303, 303]

    # Then it is shipped once, by that operator
    with transaction(database, ORDER) as session:
        assert session.get_one(ShipmentRow, order_id).shipped_by == "operator"
    assert read(database, order_id).status == "SHIPPED"
    assert "<dt>shipped by</dt><dd>operator</dd>" in get(console, "/orders", id=str(order_id)).text


@pytest.mark.parametrize(
    ("values", "act", "reason"),
    [
        (SHIPPED, cancel, "The order is shipped and can no longer be cancelled."),
        ({}, ship, "The order is PENDING: only a confirmed order can be shipped."),
    ],
)
def test_a_refusal_of_the_api_is_shown(
    console: FlaskClient,
    database: DatabaseSettings,
    values: dict[str, object],
    act: Callable[[FlaskClient, UUID], Any],
    reason: str,
) -> None:
    order_id = an_order(database, **values)
    before = read(database, order_id)

    response = act(console, order_id)

    assert response.status_code == 409
    assert f"The order is unchanged. {reason}" in response.text
    assert read(database, order_id) == before
    *_, (_, _, outcome, detail) = recorded(database, order_id)
    assert (outcome, detail) == ("failed", f"The order is unchanged. {reason}")


def test_an_unknown_order_is_reported(console: FlaskClient) -> None:
    response = ship(console, uuid4())

    assert response.status_code == 404
    assert "The order does not exist." in response.text


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_is_required(
    console: FlaskClient, database: DatabaseSettings, reason: str
) -> None:
    order_id = an_order(database)

    assert cancel(console, order_id, reason).status_code == 400
    assert read(database, order_id).status == "PENDING"


def test_the_reason_is_kept_while_the_api_is_down(
    console_of: ConsoleOf, database: DatabaseSettings
) -> None:
    # Given a console whose API is down
    order_id = an_order(database)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        console = console_of(f"http://127.0.0.1:{unused.getsockname()[1]}")

        # When an operator cancels an order
        response = cancel(console, order_id, "he said “no”")

    # Then the page has the problem and the form with the reason
    assert response.status_code == 503
    assert "cannot be reached" in response.text
    assert "The order is unchanged." in response.text
    assert 'value="he said “no”"' in response.text
    # And when the API is up, the form can be sent
    with served_api(database) as url:
        assert cancel(console_of(url), order_id).status_code == 303


def test_a_change_without_a_response_can_be_repeated(
    console_of: ConsoleOf, database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an API that accepts a request and does not respond
    monkeypatch.setattr(order_api, "_RESPONSE", 0.2)
    order_id = an_order(database)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        console = console_of(f"http://127.0.0.1:{silent.getsockname()[1]}")

        # When an operator cancels an order
        response = cancel(console, order_id)

    # Then the page does not claim that the order is unchanged
    assert response.status_code == 503
    assert "The order may have changed: repeat the action" in response.text
    # And one event is published for both requests
    monkeypatch.undo()
    with served_api(database) as url:
        console = console_of(url)
        assert [cancel(console, order_id).status_code for _ in range(2)] == [303, 303]
    with transaction(database, ORDER) as session:
        query = select(outbox.c.type).where(outbox.c.subject == order_id)
        assert sorted(session.scalars(query)) == ["order.cancelled", "order.created"]


def test_a_key_without_the_scope_is_explained(
    database: DatabaseSettings, console_settings: dict[str, Any]
) -> None:
    # Given a console with a key of a shop
    order_id = an_order(database)
    with transaction(database, ORDER) as session:
        key = api_keys.create(session, "shop", [Scope.WRITE])
    with served_api(database) as url:
        settings = console_settings | {"order_api_url": url, "order_api_key": key}
        console = create_app(ConsoleSettings(**settings)).test_client()

        # When an operator cancels an order
        response = cancel(console, order_id)

    # Then the page names the scope and the remedy, and not the key
    assert response.status_code == 503
    assert "This key lacks the scope orders:operate." in response.text
    assert "orderctl keys register console" in response.text
    assert key not in response.text


@pytest.mark.parametrize("body", ["<html>", "[]", '{"detail": 7}', '{"errors": [1]}'])
@pytest.mark.parametrize("status", [200, 409, 422, 500])
def test_any_other_response_is_not_success(
    console_of: ConsoleOf, database: DatabaseSettings, status: int, body: str
) -> None:
    # Given a server that is not the order API
    app = Flask(__name__)
    app.add_url_rule("/<path:_>", "any", lambda _: (body, status), methods=["PUT"])

    with served(app) as url:
        response = ship(console_of(url), an_order(database))

    assert response.status_code in {409, 422, 503}
    assert 'class="note wrong"' in response.text


def test_a_console_without_an_api_names_the_settings(
    database: DatabaseSettings, console_settings: dict[str, Any]
) -> None:
    console = create_app(ConsoleSettings(**console_settings)).test_client()

    response = ship(console, an_order(database, **CONFIRMED))

    assert response.status_code == 503
    assert "ORDER_API_URL and ORDER_API_KEY are not set" in response.text
