"""The plain build, the baseline of the benchmark, has the same functions as the real system."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker

from bench.plain import api, inventory, notification, orders
from eventbus.database.db import Sessions, transaction
from inventory_worker import stock
from inventory_worker.movements import Note
from testkit.servers.databases import TestDatabase

NOTE = Note(reason="counted", entered_by="tests")


@pytest.fixture
def client(api_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlaskClient]:
    for name, value in api_database.settings.items():
        monkeypatch.setenv(name.upper(), str(value))
    app = api.create_app()
    yield app.test_client()
    with app.app_context():
        api.db.engine.dispose()


@pytest.fixture
def services(
    api_database: TestDatabase,
    inventory_database: Sessions,
    notification_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, Sessions]]:
    engine = create_engine(api_database.url)
    own = {
        "orders": sessionmaker(engine, expire_on_commit=False),
        "inventory": inventory_database,
        "notification": notification_database,
    }
    for module, name in ((orders, "orders"), (inventory, "inventory")):
        monkeypatch.setattr(module, "sessions", lambda name=name: own[name])
    monkeypatch.setattr(notification, "sessions", lambda: own["notification"])
    with transaction(own["inventory"]) as session:
        stock.count(session, "TEA", 3, NOTE)
    yield own
    engine.dispose()


def test_an_order_in_stock_is_confirmed_and_mailed(
    client: FlaskClient, services: dict[str, Sessions]
) -> None:
    # When an order that is in stock is placed
    place(client, 2)
    run_all(services)

    # Then it is confirmed and its customer informed
    assert rows(services["orders"], "SELECT status FROM orders") == ["CONFIRMED"]
    assert rows(services["inventory"], "SELECT reserved FROM stock") == [2]
    assert kinds(services) == ["confirmed", "received"]


def test_an_order_out_of_stock_is_cancelled_and_reserves_nothing(
    client: FlaskClient, services: dict[str, Sessions]
) -> None:
    # When an order above the stock is placed
    place(client, 4)
    run_all(services)

    # Then it is cancelled without a reservation
    assert rows(services["orders"], "SELECT reason FROM orders") == ["out_of_stock"]
    assert rows(services["inventory"], "SELECT reserved FROM stock") == [0]
    assert kinds(services) == ["received", "rejected"]


def test_a_duplicate_event_has_one_effect(
    client: FlaskClient, services: dict[str, Sessions]
) -> None:
    # When each event is delivered twice
    place(client, 1)
    run_all(services, times=2)

    # Then it has one effect
    assert rows(services["inventory"], "SELECT reserved FROM stock") == [1]
    assert rows(services["orders"], "SELECT sequence FROM orders") == [2]
    assert kinds(services) == ["confirmed", "received"]


def test_a_cancelled_order_releases_its_stock(
    client: FlaskClient, services: dict[str, Sessions]
) -> None:
    # Given a confirmed order
    place(client, 2)
    run_all(services)
    event = cancelled(services)

    # When it is cancelled
    inventory.order_cancelled(event=event)
    notification.order_cancelled(event=event)

    # Then its stock is released
    assert rows(services["inventory"], "SELECT reserved FROM stock") == [0]
    assert kinds(services) == ["cancelled", "confirmed", "received"]


def place(client: FlaskClient, quantity: int) -> None:
    order = {
        "customer": {"email": "ada@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "TEA", "quantity": quantity, "unit_price": 500}],
    }
    assert client.post("/orders", json=order).status_code == 201


def run_all(services: dict[str, Sessions], *, times: int = 1) -> None:
    """Deliver each event to its consumers, and then the events that follow from it."""
    for place, modules in (
        ("orders", (inventory, notification)),
        ("inventory", (orders,)),
        ("orders", (inventory, notification)),
    ):
        for event in events(services[place]):
            for module in modules:
                task = module.app.tasks.get(event["type"])
                for _ in range(times if task else 0):
                    task(event=event)


def events(own: Sessions) -> list[dict[str, Any]]:
    return [json.loads(event) for event in rows(own, "SELECT event FROM outbox ORDER BY id")]


def cancelled(services: dict[str, Sessions]) -> dict[str, Any]:
    """Return an event like the one that the real system publishes for a customer's cancellation."""
    confirmed = events(services["orders"])[-1]
    data = confirmed["data"] | {"reason": "customer", "shortages": []}
    changes = {"type": "order.cancelled", "sequence": 3, "data": data}
    new_id = confirmed["id"][:-4] + "ffff"
    return confirmed | changes | {"id": new_id}


def kinds(services: dict[str, Sessions]) -> list[str]:
    return rows(services["notification"], "SELECT kind FROM notifications ORDER BY kind")


def rows(own: Sessions, sql: str) -> list[Any]:
    with transaction(own) as session:
        return list(session.execute(text(sql)).scalars())
