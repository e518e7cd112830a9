"""Orders that the API shows, lists and cancels, and their timelines."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from common.events import Quantity, StockReserved
from eventbus.database.db import Sessions, transaction
from eventbus.events.envelope import Event
from eventbus.outbox.table import outbox
from order_app.domain import Reason
from order_app.events import Cause
from order_app.handlers import HANDLERS
from order_app.use_cases import cancel
from testkit.events.deliveries import deliver
from testkit.processes.order_requests import (
    UNKNOWN_ID,
    UNKNOWN_ORDER,
    an_order,
    place,
    problem,
    wrong_fields,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_an_unknown_order_is_not_found(order_api: FlaskClient) -> None:
    for response in (
        order_api.get(UNKNOWN_ORDER),
        order_api.get(f"{UNKNOWN_ORDER}/timeline"),
        order_api.post(f"{UNKNOWN_ORDER}/cancel"),
    ):
        problem(response, 404)


@pytest.mark.parametrize("order_id", ["x", "%00", "%ff", UNKNOWN_ID.hex, f"{{{UNKNOWN_ID}}}"])
def test_an_invalid_order_id_is_rejected(order_api: FlaskClient, order_id: str) -> None:
    for response in (
        order_api.get(f"/orders/{order_id}"),
        order_api.get(f"/orders/{order_id}/timeline"),
        order_api.post(f"/orders/{order_id}/cancel"),
    ):
        assert wrong_fields(response) == {"order_id"}


def test_pages_list_every_order_newest_first(order_api: FlaskClient) -> None:
    placed = [place(order_api).get_json()["id"] for _ in range(5)]

    listed, cursor = [], ""
    while cursor is not None:
        page = order_api.get(f"/orders?limit=2{cursor and '&cursor=' + cursor}").get_json()
        listed += [order["id"] for order in page["orders"]]
        cursor = page["next_cursor"]

    assert listed == placed[::-1]


def test_orders_are_filtered_by_status_and_email(order_api: FlaskClient) -> None:
    first = place(order_api).get_json()["id"]
    second = place(order_api, an_order(customer={"email": "bob@example.com"})).get_json()["id"]
    order_api.post(f"/orders/{first}/cancel")

    def listed(query: str) -> list[str]:
        return [o["id"] for o in order_api.get(f"/orders?{query}").get_json()["orders"]]

    assert listed("status=CANCELLED") == [first]
    assert listed("status=PENDING") == [second]
    assert listed("email=bob@example.com") == [second]
    assert listed("email=bob@example.com&status=CANCELLED") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=", "limit"),
        ("limit=5.0", "limit"),
        ("limit=%205", "limit"),
        ("limit=1_0", "limit"),
        ("limit=9999999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=pending", "status"),
        ("status=", "status"),
        ("email=ann", "email"),
        ("email=%00", "email"),
        ("cursor=", "cursor"),
        ("cursor=abc", "cursor"),
        ("cursor=" + "_" * 32, "cursor"),
        ("stauts=PENDING", "stauts"),
    ],
)
def test_a_rejected_listing_names_the_wrong_parameter(
    order_api: FlaskClient, query: str, field: str
) -> None:
    assert wrong_fields(order_api.get(f"/orders?{query}")) == {field}


def test_a_repeated_cancellation_returns_the_same_order(order_api: FlaskClient) -> None:
    location = place(order_api).headers["Location"]

    first = order_api.post(f"{location}/cancel")
    second = order_api.post(f"{location}/cancel")

    assert first.status_code == second.status_code == 200
    assert first.get_json() == second.get_json() == order_api.get(location).get_json()
    order = first.get_json()
    assert (order["status"], order["reason"]) == ("CANCELLED", "customer")
    assert order["decided_at"] is not None


def test_cancelling_an_out_of_stock_order_is_a_conflict(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    location = place(order_api).headers["Location"]
    with transaction(sessions) as session:
        cancel(session, UUID(location[8:]), Reason.OUT_OF_STOCK, cause=Cause())

    assert "out_of_stock" in problem(order_api.post(f"{location}/cancel"), 409)["detail"]


def test_the_timeline_lists_sent_and_handled_events(
    order_api: FlaskClient, sessions: Sessions
) -> None:
    order_id = place(order_api, traceparent=TRACEPARENT).get_json()["id"]
    with transaction(sessions) as session:
        session.execute(update(outbox).values(unroutable_reason="NO_ROUTE"))
        created = session.scalar(select(outbox.c.event_id))
    reserved = Event(
        source="inventory",
        subject=UUID(order_id),
        sequence=1,
        traceparent=TRACEPARENT,
        causationid=created,
        data=StockReserved(lines=(Quantity(sku="TEA", quantity=2),)),
    )
    deliver(sessions, HANDLERS, reserved, attempts=3)

    timeline = order_api.get(f"/orders/{order_id}/timeline").get_json()

    assert timeline["order_id"] == order_id
    sent, answer, confirmed = timeline["events"]
    assert (sent["type"], sent["source"]) == ("order.created", "order")
    assert (sent["handled_by"], sent["unroutable_reason"]) == (["inventory"], "NO_ROUTE")
    assert sent["recorded_at"] is not None
    assert sent["published_at"] is None
    assert (answer["type"], answer["attempts"]) == ("stock.reserved", 3)
    assert answer["causation_id"] == sent["id"]
    assert confirmed["causation_id"] == answer["id"]
    assert {event["trace_id"] for event in timeline["events"]} == {TRACE}
