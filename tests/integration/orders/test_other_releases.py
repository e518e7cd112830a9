"""What another release has written grants nothing and breaks nothing: a rolling update's state."""

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
from testkit.eventually import eventually
from testkit.processes.api_client import with_key
from testkit.processes.order_requests import an_order, place, problem
from testkit.servers.databases import TestDatabase


@pytest.fixture
def sessions(order_api: FlaskClient, api_database: TestDatabase) -> Iterator[Sessions]:
    """Sessions on the database that the API uses, which may also change its tables."""
    engine = db.engine(api_database.service_settings)
    yield db.sessions(engine)
    engine.dispose()


def run(sessions: Sessions, statement: str, **values: object) -> None:
    with transaction(sessions) as session:
        session.execute(text(statement), values)


def another_key(api: FlaskClient, sessions: Sessions, name: str) -> FlaskClient:
    with transaction(sessions) as session:
        return with_key(api.application, api_keys.create(session, name, Scope))


# ---- API keys


def test_an_unknown_scope_grants_nothing_and_breaks_no_key(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given keys with a scope of another release, one of them with nothing else
    newer, odd = (another_key(order_api, sessions, name) for name in ("newer", "odd"))
    run(sessions, "UPDATE api_keys SET scopes = '{orders:read,orders:refund}' WHERE name = 'newer'")
    run(sessions, "UPDATE api_keys SET scopes = '{orders:refund}' WHERE name = 'odd'")

    # then every key opens what this release knows
    assert order_api.get("/orders").status_code == 200
    assert newer.get("/orders").status_code == 200
    problem(place(newer), 403)
    problem(odd.get("/orders"), 403)

    # and each is listed, and can be revoked
    with transaction(sessions) as session:
        listed = {key.name: key for key in api_keys.all_keys(session)}
        assert listed["newer"].scopes == {Scope.READ}
        assert listed["newer"].unknown_scopes == {"orders:refund"}
        assert api_keys.revoke(session, listed["odd"].prefix).revoked_at is not None


# ---- orders


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
    # when everything is tried that changes an order
    refused = order_api.post(f"{odd}/cancel")
    order = order_api.get(odd).get_json()
    for data in (
        StockReserved(lines=(Quantity(sku="TEA", quantity=2),)),
        StockRejected(reason="out_of_stock", shortages=()),
    ):
        subject = UUID(order["id"])
        event = Event(source="inventory", subject=subject, sequence=1, data=data)
        with transaction(sessions) as session:
            HANDLERS[type(data)](session, event)
    with transaction(sessions) as session:
        assert sweep_deadlines(session, timedelta(days=-365), 10) == 0

    # then it is as it was
    assert problem(refused, 409)["detail"] == "The order can no longer be cancelled: RETURNED."
    assert order_api.get(odd).get_json() == order
    with transaction(sessions) as session:
        assert session.scalar(text("SELECT count(*) FROM outbox")) == 1


# ---- idempotency keys


def test_a_repeated_request_with_a_rotated_key_places_no_order(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given an order, and then another key for the same client
    first = place(order_api, Idempotency_Key="k")
    rotated = another_key(order_api, sessions, "tests")

    # when
    eventually(lambda: _assert_known(rotated))
    second = place(rotated, Idempotency_Key="k")

    # then
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.get_json() == first.get_json()
    assert second.headers["Idempotency-Replayed"] == "true"
    problem(place(rotated, an_order(currency="USD"), Idempotency_Key="k"), 422)

    # and it is another one for another client
    stranger = another_key(order_api, sessions, "another shop")
    eventually(lambda: _assert_known(stranger))
    assert place(stranger, Idempotency_Key="k").get_json()["id"] != first.get_json()["id"]


def test_an_idempotency_key_of_an_earlier_release_still_works(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # given an order that was claimed under the second key of its client
    rotated = another_key(order_api, sessions, "tests")
    eventually(lambda: _assert_known(rotated))
    first = place(rotated, Idempotency_Key="k")
    run(
        sessions,
        "UPDATE idempotency_keys SET api_key ="
        " (SELECT prefix FROM api_keys ORDER BY created_at DESC LIMIT 1)",
    )

    # then the same request is no second order, whichever key it comes with
    for client in (rotated, order_api):
        again = place(client, Idempotency_Key="k")
        assert (again.status_code, again.get_json()) == (201, first.get_json())


def test_the_oldest_key_identifies_its_client(order_api: FlaskClient, sessions: Sessions) -> None:
    for _ in range(2):
        another_key(order_api, sessions, "tests")

    with transaction(sessions) as session:
        found = api_keys.all_keys(session)

    oldest = [key.prefix for key in found]
    assert {key.of_client for key in found} == {tuple(oldest)}


def _assert_known(client: FlaskClient) -> None:
    assert client.get("/orders?limit=1").status_code == 200
