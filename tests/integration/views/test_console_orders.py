"""Orders in the web console: found, stuck, followed, and one address revealed."""

import logging
import re
from collections.abc import Callable
from html import unescape
from uuid import UUID

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from sqlalchemy import update
from werkzeug.test import TestResponse

from common.kombu_topology import ORDER
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from console.web.orders import pages
from order_app import use_cases
from order_app.storage.models import OrderRow
from testkit.processes.web_console import PASSWORD, get, park, place, publish

Installation = Callable[[], DatabaseSettings]


def test_the_newest_orders_are_listed_with_masked_addresses(
    console: FlaskClient, installation: Installation
) -> None:
    # Given two orders
    settings = installation()
    first, second = place(settings), place(settings)

    # When the list is requested
    html = get(console, "/orders").text

    # Then it links to both, with the amounts and without the addresses
    assert listed(html) == [str(second), str(first)]
    assert "EUR 10.00" in html
    assert "a***@example.com" in html
    assert "ada@example.com" not in html


def test_an_empty_list_is_explained(console: FlaskClient, installation: Installation) -> None:
    installation()

    assert "No orders" in get(console, "/orders").text
    assert "meet these criteria" in get(console, "/orders", status="SHIPPED").text


def test_orders_are_found_by_one_field_and_by_filters(
    console: FlaskClient, installation: Installation
) -> None:
    # Given an order of a customer, and one of another
    settings = installation()
    mine, other = place(settings), place(settings)
    change(settings, other, customer_email="bob@example.com")

    # When an address, an id, a status and a time are entered
    by_address = get(console, "/orders", find=" Ada@example.com ").text
    by_id = get(console, "/orders", find=str(other)).text
    by_status = get(console, "/orders", status="CONFIRMED").text
    by_time = get(console, "/orders", since="2026-01-01T00:00", until="2026-01-02T00:00").text

    # Then each selects its orders, and the form keeps what was entered
    assert listed(by_address) == [str(mine)]
    assert 'value="Ada@example.com"' in by_address
    assert "<h1>Order</h1>" in by_id
    assert str(other) in by_id
    assert listed(by_status) == listed(by_time) == []
    assert "<option selected>CONFIRMED</option>" in by_status
    # And a filtered list searches no queues
    assert "Stuck" not in by_address


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ({"find": "ada@"}, "the email address is invalid"),
        ({"find": "ada"}, "An order id has 32 digits"),
        ({"status": "LOST"}, "The status is not one of"),
        ({"since": "yesterday"}, "Placed from is not a time"),
        ({"until": "yesterday"}, "Placed until is not a time"),
    ],
)
def test_an_invalid_field_is_named(
    console: FlaskClient, query: dict[str, str], problem: str
) -> None:
    response = get(console, "/orders", **query)

    assert response.status_code == 400
    assert problem in response.text


def test_pages_are_linked_until_the_last(
    console: FlaskClient, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more orders than a page has
    monkeypatch.setattr(pages, "LIMIT", 2)
    settings = installation()
    ids = [str(place(settings)) for _ in range(5)]

    # When the links are followed
    html, found = get(console, "/orders", find="ada@example.com").text, list[str]()
    while True:
        found += listed(html)
        link = re.search(r'rel="next" href="([^"]+)"', html)
        if link is None:
            break
        html = console.get(unescape(link[1]), auth=("operator", PASSWORD)).text

    # Then each order is listed once
    assert found == ids[::-1]
    assert get(console, "/orders", after="abc").text.count("after is not a cursor") == 1


def test_a_stuck_order_links_to_its_repair(
    console: FlaskClient, installation: Installation, channel: Channel
) -> None:
    # Given an order whose event is parked at the inventory
    settings = installation()
    order_id = place(settings)
    event_id = publish(settings, order_id)
    park(channel, str(event_id), "the shelf is locked", subject=str(order_id))

    # When the orders and the order are shown
    stuck, order = get(console, "/orders").text, get(console, "/orders", id=str(order_id)).text

    # Then both name the place and the reason, and link to the message and its group
    assert "Stuck: 1 order" in stuck
    for html in (stuck, order):
        assert "<strong>order.created</strong> is parked at inventory" in html
        assert "ValueError: the shelf is locked" in html
        assert f'href="/parked/inventory/message?id={event_id}&amp;digest=' in html
        assert 'href="/parked/groups#inventory"' in html
        assert f'href="/parked/inventory/redrive?id={event_id}&amp;digest=' in html


def test_an_unsent_order_is_stuck_at_its_relay(
    console: FlaskClient, installation: Installation
) -> None:
    order_id = place(installation())

    html = get(console, "/orders").text

    assert f'href="/orders?id={order_id}"' in html
    assert "is unsent in the outbox of order: " in html
    assert "order-relay is not running" in html


def test_viewers_share_one_search_for_stuck_orders(
    console: FlaskClient, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a page that was loaded while no order was stuck, and a search that lasts
    monkeypatch.setattr(console.application.extensions["stuck"], "_seconds", 600)
    settings = installation()
    get(console, "/orders")

    # When an order gets stuck
    place(settings)

    # Then the next page shows the earlier result
    assert "Stuck" not in get(console, "/orders").text


def test_the_flow_of_an_order_is_drawn_and_listed(
    console: FlaskClient, installation: Installation, channel: Channel
) -> None:
    # Given an order whose event is parked at the inventory
    settings = installation()
    order_id = place(settings)
    park(channel, str(publish(settings, order_id)), "no <way>", subject=str(order_id))

    # When the order is shown
    html = get(console, "/orders", id=str(order_id)).text

    # Then each participant has a line, and each step an arrow and a text
    participants = re.findall(r'class="participant"[^>]*>([^<]+)</text>', html)
    assert participants == ["order-api", "inventory", "notification", "fraud"]
    assert re.findall(r'<g class="(\w+)">', html).count("failed") == 1
    steps = re.search(r'<ol id="steps">(.*?)</ol>', html, re.DOTALL)
    assert steps
    assert steps[1].count("<li") == 3
    assert "order.created from order-api to inventory: parked at inventory" in steps[1]
    assert "no &lt;way&gt;" in steps[1]
    assert 'aria-describedby="steps"' in html


def test_an_address_is_shown_and_the_showing_is_logged(
    console: FlaskClient, installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    # Given the page of an order
    order_id = str(place(installation()))
    html = get(console, "/orders", id=order_id).text
    token = re.findall(r'name="token" value="([^"]*)"', html)[0]
    assert "ada@example.com" not in html

    # When its address is requested
    with caplog.at_level(logging.INFO):
        shown = reveal(console, id=order_id, token=token)
        forged = reveal(console, id=order_id)

    # Then it is shown, and logged with the order's id only; a forged form is rejected
    assert "ada@example.com" in shown.text
    assert forged.status_code == 403
    (record,) = [r for r in caplog.records if r.message == "address revealed"]
    assert record.__dict__["order_id"] == order_id
    assert "ada@example.com" not in caplog.text


def test_the_reason_of_an_operator_is_shown(
    console: FlaskClient, installation: Installation
) -> None:
    # Given an order that an operator has cancelled
    settings = installation()
    order_id = place(settings)
    with transaction(settings, ORDER) as session:
        use_cases.cancel_as_operator(session, order_id, reason="<called>", operator="anna")

    # Then its page has the reason and the name
    html = get(console, "/orders", id=str(order_id)).text
    assert "anna: &lt;called&gt;" in html
    assert 'class="badge cancelled">CANCELLED</span> operator' in html


def listed(html: str) -> list[str]:
    """Return the ids in the list of a page, without the stuck orders."""
    section = html.partition('<h2 id="list">')[2]
    return re.findall(r'scope="row"><a href="/orders\?id=([0-9a-f-]+)"', section)


def change(settings: DatabaseSettings, order_id: UUID, **values: object) -> None:
    """Change a stored order."""
    with transaction(settings, ORDER) as session:
        session.execute(update(OrderRow).where(OrderRow.id == order_id).values(**values))


def reveal(console: FlaskClient, **form: str) -> TestResponse:
    return console.post("/orders/reveal", data=form, auth=("operator", PASSWORD))
