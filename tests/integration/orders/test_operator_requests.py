"""Operators cancel and ship orders through the API, with a separate scope."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from common.events import OrderCancelled, OrderShipped
from eventbus.database.db import Sessions, transaction
from order_app.storage import api_keys
from order_app.storage.api_keys import Scope
from order_app.storage.models import CancellationRow, ShipmentRow
from testkit.data.orders import stored
from testkit.data.outbox_events import outbox_events
from testkit.processes.api_client import with_key
from testkit.processes.order_requests import UNKNOWN_ORDER, problem, wrong_fields

NOW = datetime.now(UTC)
CONFIRMED = {"status": "CONFIRMED", "decided_at": NOW, "sequence": 2}
SHIPPED = {**CONFIRMED, "status": "SHIPPED", "shipped_at": NOW}

BY_ADA = {"operator": "ada", "reason": "the customer called"}


def cancellation(sessions: Sessions, order_id: UUID) -> CancellationRow | None:
    with transaction(sessions) as session:
        return session.get(CancellationRow, order_id)


def shipment(sessions: Sessions, order_id: UUID) -> ShipmentRow | None:
    with transaction(sessions) as session:
        return session.get(ShipmentRow, order_id)


def test_a_repeated_cancellation_keeps_the_first_reason(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an order
    order_id = stored(sessions, **CONFIRMED, traceparent="00-1-2-01")
    path = f"/orders/{order_id}/cancellation"

    # When two operators cancel it
    first = order_api.put(path, json=BY_ADA | {"reason": " the customer called "})
    again = order_api.put(path, json={"operator": "bob", "reason": "another"})

    # Then it is cancelled once, for the first reason
    assert first.json
    assert (first.status_code, first.json["status"]) == (200, "CANCELLED")
    assert (again.status_code, again.json) == (200, first.json)
    row = cancellation(sessions, order_id)
    assert row
    assert (row.reason, row.cancelled_by) == ("the customer called", "ada")
    # And the event has none of the operator's words
    (event,) = outbox_events(sessions, order_id)
    assert isinstance(event.data, OrderCancelled)
    assert (event.data.reason, event.traceparent) == ("operator", "00-1-2-01")


def test_a_repeated_shipment_keeps_the_first_operator(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    order_id = stored(sessions, **CONFIRMED)

    for operator in ("ada", "bob"):
        response = order_api.put(f"/orders/{order_id}/shipment", json={"operator": operator})
        assert response.json
        assert (response.status_code, response.json["status"]) == (200, "SHIPPED")

    row = shipment(sessions, order_id)
    assert row
    assert row.shipped_by == "ada"
    (event,) = outbox_events(sessions, order_id)
    assert isinstance(event.data, OrderShipped)


@pytest.mark.parametrize(
    ("values", "path", "detail"),
    [
        (SHIPPED, "cancellation", "The order is shipped and can no longer be cancelled."),
        ({}, "shipment", "The order is PENDING: only a confirmed order can be shipped."),
    ],
)
def test_a_late_or_early_request_is_a_conflict(
    order_api: FlaskClient, sessions: Sessions, values: dict[str, Any], path: str, detail: str
) -> None:
    order_id = stored(sessions, **values)
    body = BY_ADA if path == "cancellation" else {"operator": "ada"}

    response = order_api.put(f"/orders/{order_id}/{path}", json=body)

    assert problem(response, 409)["detail"] == detail
    assert cancellation(sessions, order_id) is None
    assert shipment(sessions, order_id) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"operator": "ada"}, "reason"),
        ({"reason": "none"}, "operator"),
        (BY_ADA | {"reason": "  "}, "reason"),
        (BY_ADA | {"reason": "x" * 501}, "reason"),
        (BY_ADA | {"operator": "x" * 101}, "operator"),
        (BY_ADA | {"refund": True}, "refund"),
        (BY_ADA | {"reason": 7}, "reason"),
    ],
)
def test_an_invalid_cancellation_names_its_field(
    order_api: FlaskClient, body: dict[str, Any], field: str
) -> None:
    assert wrong_fields(order_api.put(f"{UNKNOWN_ORDER}/cancellation", json=body)) == {field}


def test_characters_that_cannot_be_stored_are_removed(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    order_id = stored(sessions)

    order_api.put(f"/orders/{order_id}/cancellation", json=BY_ADA | {"reason": "a\0b"})

    row = cancellation(sessions, order_id)
    assert row
    assert row.reason == "ab"


def test_an_unknown_order_cannot_be_changed(order_api: FlaskClient) -> None:
    problem(order_api.put(f"{UNKNOWN_ORDER}/cancellation", json=BY_ADA), 404)
    problem(order_api.put(f"{UNKNOWN_ORDER}/shipment", json={"operator": "ada"}), 404)


def test_only_the_scope_of_operators_admits_their_requests(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given a shop with all other scopes, and the console
    order_id = stored(sessions)
    with transaction(sessions) as session:
        others = set(Scope) - {Scope.OPERATE}
        shop = with_key(order_api.application, api_keys.create(session, "shop", others))
        key = api_keys.create(session, "console", [Scope.OPERATE])
    console = with_key(order_api.application, key)

    # Then the shop cannot act as an operator, and the console only that
    for path, body in (("cancellation", BY_ADA), ("shipment", {"operator": "ada"})):
        response = shop.put(f"/orders/{order_id}/{path}", json=body)
        assert problem(response, 403)["detail"] == "This key lacks the scope orders:operate."
    assert console.put(f"/orders/{order_id}/cancellation", json=BY_ADA).status_code == 200
    problem(console.get(f"/orders/{order_id}"), 403)
    problem(console.post(f"/orders/{order_id}/cancel"), 403)
