"""An order is shipped once, by the API or by `orderctl`, and no later event changes it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from click.testing import Result
from flask.testing import FlaskClient

from common.events import OrderShipped, StockRejected, StockReserved
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from order_app import use_cases
from order_app.handlers import HANDLERS
from testkit.data.orders import stored
from testkit.data.outbox_events import outbox_events
from testkit.events.deliveries import deliver

NOW = datetime.now(UTC)
CONFIRMED = {"status": "CONFIRMED", "decided_at": NOW, "sequence": 2}
CANCELLED = {"status": "CANCELLED", "reason": "customer", "decided_at": NOW}


def test_shipping_a_confirmed_order_publishes_its_event(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    order_id = stored(sessions, **CONFIRMED)

    answer = order_api.post(f"/orders/{order_id}/ship")

    assert answer.status_code == 200
    assert answer.json
    assert (answer.json["status"], answer.json["reason"]) == ("SHIPPED", None)
    assert answer.json["shipped_at"]
    (event,) = outbox_events(sessions, order_id)
    assert isinstance(event.data, OrderShipped)
    assert (event.sequence, event.data.total) == (3, 2500)
    assert [(line.sku, line.quantity) for line in event.data.lines] == [("TEA", 2)]
    assert event.time == datetime.fromisoformat(answer.json["shipped_at"])


def test_shipping_an_order_again_has_no_effect(order_api: FlaskClient, sessions: Sessions) -> None:
    order_id = stored(sessions, **CONFIRMED)
    first = order_api.post(f"/orders/{order_id}/ship")

    again = order_api.post(f"/orders/{order_id}/ship")

    assert (again.status_code, again.json) == (200, first.json)
    assert len(outbox_events(sessions, order_id)) == 1


@pytest.mark.parametrize(
    ("values", "part"),
    [({}, "PENDING"), (CANCELLED, "cancelled: customer")],
    ids=["pending", "cancelled"],
)
def test_only_a_confirmed_order_can_be_shipped(
    order_api: FlaskClient, sessions: Sessions, values: dict[str, object], part: str
) -> None:
    order_id = stored(sessions, **values)

    answer = order_api.post(f"/orders/{order_id}/ship")

    assert answer.status_code == 409
    assert answer.json
    assert part in answer.json["detail"]
    assert outbox_events(sessions, order_id) == []


def test_an_unknown_order_cannot_be_shipped(order_api: FlaskClient) -> None:
    assert order_api.post(f"/orders/{uuid4()}/ship").status_code == 404


def test_a_shipped_order_cannot_be_cancelled(order_api: FlaskClient, sessions: Sessions) -> None:
    order_id = stored(sessions, **CONFIRMED)
    order_api.post(f"/orders/{order_id}/ship")

    answer = order_api.post(f"/orders/{order_id}/cancel")

    assert answer.status_code == 409
    assert answer.json
    assert "shipped" in answer.json["detail"]
    shown = order_api.get(f"/orders/{order_id}").json
    assert shown
    assert shown["status"] == "SHIPPED"


def test_late_answers_and_sweeps_leave_a_shipped_order_unchanged(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    order_id = stored(sessions, **CONFIRMED, deadline_at=NOW - timedelta(hours=1))
    order_api.post(f"/orders/{order_id}/ship")
    answers = [
        Event(source="inventory", subject=order_id, sequence=1, data=data)
        for data in (
            StockReserved(lines=()),
            StockRejected(reason="out_of_stock", shortages=()),
        )
    ]

    deliver(sessions, HANDLERS, *answers)
    with transaction(sessions) as session:
        use_cases.sweep_deadlines(session, timedelta(days=-365), 10)

    assert [event.type for event in outbox_events(sessions, order_id)] == ["order.shipped"]


def test_shipped_orders_are_listed_by_their_status(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    stored(sessions, **CONFIRMED)
    order_id = stored(sessions, **CONFIRMED)
    order_api.post(f"/orders/{order_id}/ship")

    listed = order_api.get("/orders?status=SHIPPED").json

    assert listed
    assert [order["id"] for order in listed["orders"]] == [str(order_id)]


def test_orderctl_ships_orders(orderctl: Callable[..., Result], orders: Sessions) -> None:
    ids = [stored(orders, **CONFIRMED, traceparent="00-1-2-01") for _ in range(2)]

    for _ in range(2):
        shipped = orderctl("orders", "ship", *map(str, ids))

        assert shipped.exit_code == 0, shipped.stderr
        assert shipped.stdout == "".join(f"order {i}: SHIPPED\n" for i in ids)
    for order_id in ids:
        (event,) = outbox_events(orders, order_id)
        assert (event.type, event.traceparent) == ("order.shipped", "00-1-2-01")


def test_orderctl_reports_why_an_order_cannot_be_shipped(
    orderctl: Callable[..., Result], orders: Sessions
) -> None:
    pending, unknown = stored(orders), uuid4()

    rejected, missing = (orderctl("orders", "ship", str(i)) for i in (pending, unknown))

    assert (rejected.exit_code, missing.exit_code) == (1, 1)
    assert "PENDING" in rejected.stderr
    assert str(unknown) in missing.stderr
