"""State of another release, as during a rolling update: it grants nothing and breaks nothing."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from common.events import Quantity, StockRejected, StockReserved
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from order_app.handlers import HANDLERS
from order_app.storage import api_keys
from order_app.storage.api_keys import Scope
from order_app.use_cases import sweep_deadlines
from testkit.events.deliveries import deliver
from testkit.eventually import eventually
from testkit.processes.api_client import with_key
from testkit.processes.order_requests import an_order, place, problem
from testkit.servers.databases import TestDatabase


@pytest.fixture
def sessions(order_api: FlaskClient, api_database: TestDatabase) -> Iterator[Sessions]:
    """Sessions on the database of the API, as the owner of its tables."""
    engine = db.engine(api_database.service_settings)
    yield db.sessions(engine)
    engine.dispose()


def run(sessions: Sessions, statement: str, **values: object) -> None:
    with transaction(sessions) as session:
        session.execute(text(statement), values)


def another_key(api: FlaskClient, sessions: Sessions, name: str) -> FlaskClient:
    with transaction(sessions) as session:
        return with_key(api.application, api_keys.create(session, name, Scope))


def test_an_unknown_scope_grants_nothing_and_breaks_no_key(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given two keys with a scope of another release, one of them with no other scope
    newer, odd = (another_key(order_api, sessions, name) for name in ("newer", "odd"))
    run(sessions, "UPDATE api_keys SET scopes = '{orders:read,orders:refund}' WHERE name = 'newer'")
    run(sessions, "UPDATE api_keys SET scopes = '{orders:refund}' WHERE name = 'odd'")

    # Then every key grants the scopes that this release defines
    assert order_api.get("/orders").status_code == 200
    assert newer.get("/orders").status_code == 200
    problem(place(newer), 403)
    problem(odd.get("/orders"), 403)

    # And both keys are listed and can be revoked
    with transaction(sessions) as session:
        listed = {key.name: key for key in api_keys.all_keys(session)}
        assert listed["newer"].scopes == {Scope.READ}
        assert listed["newer"].unknown_scopes == {"orders:refund"}
        assert api_keys.revoke(session, listed["odd"].prefix).revoked_at is not None


@pytest.fixture
def odd(order_api: FlaskClient, sessions: Sessions) -> str:
    """The path of an order with a status and a reason of another release."""
    placed = place(order_api).get_json()
    run(sessions, "ALTER TABLE orders DROP CONSTRAINT ck_orders_status")
    run(sessions, "ALTER TABLE orders DROP CONSTRAINT ck_orders_reason")
    run(
        sessions,
        "UPDATE orders SET status = 'RETURNED', reason = 'broken', decided_at = now(),"
        " deadline_at = now() - interval '1 hour'",
    )
    return f"/orders/{placed['id']}"


def test_an_order_with_an_unknown_status_is_shown(order_api: FlaskClient, odd: str) -> None:
    shown = order_api.get(odd).get_json()

    assert (shown["status"], shown["reason"]) == ("RETURNED", "broken")
    assert order_api.get("/orders").get_json()["orders"] == [shown]
    assert order_api.get(f"{odd}/timeline").status_code == 200
    assert order_api.get("/metrics").status_code == 200


def test_an_order_with_an_unknown_status_never_changes(
    order_api: FlaskClient, sessions: Sessions, odd: str
) -> None:
    # When every way to change an order is tried
    rejected = order_api.post(f"{odd}/cancel")
    order = order_api.get(odd).get_json()
    for data in (
        StockReserved(lines=(Quantity(sku="TEA", quantity=2),)),
        StockRejected(reason="out_of_stock", shortages=()),
    ):
        subject = UUID(order["id"])
        event = Event(source="inventory", subject=subject, sequence=1, data=data)
        deliver(sessions, HANDLERS, event)
    with transaction(sessions) as session:
        assert sweep_deadlines(session, timedelta(days=-365), 10).found == 0

    # Then the order is unchanged
    assert problem(rejected, 409)["detail"] == "The order can no longer be cancelled: RETURNED."
    assert order_api.get(odd).get_json() == order
    with transaction(sessions) as session:
        assert session.scalar(text("SELECT count(*) FROM outbox")) == 1


def test_a_repeated_request_with_a_rotated_key_places_no_order(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an order, and then a second key of the same client
    first = place(order_api, Idempotency_Key="k")
    rotated = another_key(order_api, sessions, "tests")

    # When the client repeats the request with the new key
    eventually(lambda: _assert_known(rotated))
    second = place(rotated, Idempotency_Key="k")

    # Then it gets the same order
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.get_json() == first.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    problem(place(rotated, an_order(currency="USD"), Idempotency_Key="k"), 422)

    # And another client gets another order
    other_client = another_key(order_api, sessions, "another shop")
    eventually(lambda: _assert_known(other_client))
    assert place(other_client, Idempotency_Key="k").get_json()["id"] != first.get_json()["id"]


def test_an_idempotency_key_of_an_earlier_release_still_works(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an order that was claimed under the second key of its client
    rotated = another_key(order_api, sessions, "tests")
    eventually(lambda: _assert_known(rotated))
    first = place(rotated, Idempotency_Key="k")
    run(
        sessions,
        "UPDATE idempotency_keys SET api_key ="
        " (SELECT prefix FROM api_keys ORDER BY created_at DESC LIMIT 1)",
    )

    # Then a repeated request with either key gets the same order
    for client in (rotated, order_api):
        again = place(client, Idempotency_Key="k")
        assert (again.status_code, again.get_json()) == (201, first.get_json())


def test_the_oldest_key_identifies_its_client(order_api: FlaskClient, sessions: Sessions) -> None:
    for _ in range(2):
        another_key(order_api, sessions, "tests")

    with transaction(sessions) as session:
        keys = api_keys.all_keys(session)

    oldest = [key.prefix for key in keys]
    assert {key.of_client for key in keys} == {tuple(oldest)}


def _assert_known(client: FlaskClient) -> None:
    assert client.get("/orders?limit=1").status_code == 200
