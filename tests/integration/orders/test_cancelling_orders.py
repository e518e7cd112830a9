"""An operator cancels an order with a reason, which is stored with the order."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from click.testing import Result
from flask.testing import FlaskClient

from common.events import OrderCancelled
from console.commands.operator import operator_name
from eventbus.database.db import Sessions, transaction
from order_app import use_cases
from order_app.storage.models import CancellationRow
from testkit.data.orders import stored
from testkit.data.outbox_events import outbox_events

NOW = datetime.now(UTC)
DECIDED = {"decided_at": NOW, "sequence": 2}
CONFIRMED = {"status": "CONFIRMED", **DECIDED}

Orderctl = Callable[..., Result]


@pytest.mark.parametrize("values", [{}, CONFIRMED], ids=["pending", "confirmed"])
def test_a_cancellation_records_its_reason_and_the_operator(
    orderctl: Orderctl, orders: Sessions, values: dict[str, object]
) -> None:
    # Given an order
    order_id = stored(orders, **values, traceparent="00-1-2-01")

    # When an operator cancels it
    result = orderctl("orders", "cancel", str(order_id), "--reason", " the customer called ")

    # Then the order is cancelled, and the reason and the operator are stored
    assert (result.exit_code, result.stdout) == (0, f"order {order_id}: CANCELLED\n")
    row = cancellation(orders, order_id)
    assert row
    assert (row.reason, row.cancelled_by) == ("the customer called", operator_name())
    # And the event has the kind of reason, and none of the operator's words
    (event,) = outbox_events(orders, order_id)
    assert isinstance(event.data, OrderCancelled)
    assert (event.data.reason, event.traceparent) == ("operator", "00-1-2-01")
    assert event.time == row.cancelled_at


def test_cancelling_an_order_again_keeps_the_first_reason(
    orderctl: Orderctl, orders: Sessions
) -> None:
    order_id = stored(orders)

    for reason in ("first", "second"):
        result = orderctl("orders", "cancel", str(order_id), "--reason", reason)
        assert result.exit_code == 0, result.output

    row = cancellation(orders, order_id)
    assert row
    assert row.reason == "first"
    assert len(outbox_events(orders, order_id)) == 1


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"status": "SHIPPED", "shipped_at": NOW, **DECIDED}, "shipped"),
        ({"status": "CANCELLED", "reason": "out_of_stock", **DECIDED}, "out_of_stock"),
    ],
    ids=["shipped", "out of stock"],
)
def test_an_order_that_cannot_be_cancelled_is_unchanged(
    orderctl: Orderctl, orders: Sessions, values: dict[str, object], problem: str
) -> None:
    order_id = stored(orders, **values)

    result = orderctl("orders", "cancel", str(order_id), "--reason", "too late")

    assert result.exit_code == 1
    assert problem in result.stderr
    assert cancellation(orders, order_id) is None
    assert outbox_events(orders, order_id) == []


def test_an_unknown_order_is_not_cancelled(orderctl: Orderctl, orders: Sessions) -> None:
    result = orderctl("orders", "cancel", str(uuid4()), "--reason", "none")

    assert result.exit_code == 1
    assert "does not exist" in result.stderr


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
def test_a_reason_is_required(orderctl: Orderctl, orders: Sessions, reason: str) -> None:
    order_id = stored(orders)

    result = orderctl("orders", "cancel", str(order_id), "--reason", reason)

    assert result.exit_code == 64
    assert "--reason" in result.stderr
    assert outbox_events(orders, order_id) == []


def test_a_customer_cannot_cancel_what_an_operator_has_cancelled(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    # Given an order that an operator has cancelled
    order_id = stored(sessions)
    with transaction(sessions) as session:
        use_cases.cancel_as_operator(session, order_id, reason="a test", operator="anna")

    # When the customer cancels it
    answer = order_api.post(f"/orders/{order_id}/cancel")

    # Then the API reports the reason of the first cancellation
    assert answer.status_code == 409
    assert answer.json
    assert "operator" in answer.json["detail"]


def cancellation(sessions: Sessions, order_id: UUID) -> CancellationRow | None:
    with transaction(sessions) as session:
        return session.get(CancellationRow, order_id)
