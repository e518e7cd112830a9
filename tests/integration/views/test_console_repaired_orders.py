"""Stuck orders in the web console lead to the repair, and the repair leads back to the orders."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from common.kombu_topology import INVENTORY
from console.databases import pauses
from console.settings import DatabaseSettings
from testkit.data.parked import park_created
from testkit.eventually import eventually
from testkit.processes.web_console import (
    PASSWORD,
    discard,
    get,
    hidden,
    ids,
    park,
    place,
    publish,
    token,
)

Installation = Callable[[], DatabaseSettings]

LOGIN = ("operator", PASSWORD)


def follow(console: FlaskClient, link: str) -> TestResponse:
    """Send the form of the page to which a link leads."""
    path = unescape(link)
    page = console.get(path, auth=LOGIN)
    filled = re.findall(r'<input id="\w+" name="(\w+)" value="([^"]*)"', page.text)
    form = hidden(page) | {name: unescape(value) for name, value in filled}
    return console.post(path.partition("?")[0], data=form, auth=LOGIN)


def test_a_redrive_returns_to_the_order(
    console: FlaskClient, installation: Installation, channel: Channel
) -> None:
    # Given an order whose event is parked at the inventory
    settings = installation()
    order_id = place(settings)
    park(channel, str(publish(settings, order_id)), "the shelf is locked")

    # When the link of the order is followed
    html = get(console, "/orders", id=str(order_id)).text
    (link,) = re.findall(r'href="(/parked/inventory/redrive[^"]+)"', html)
    redriven = follow(console, link)

    # Then the result is shown on the page that the operator came from
    assert redriven.location == f"/orders?id={order_id}"
    assert "1 redriven to inventory.queue" in get(console, "/orders", id=str(order_id)).text
    assert len(ids(channel, "inventory.queue")) == 1


def test_a_cause_that_orders_share_is_redriven_by_a_plan(
    console: FlaskClient, installation: Installation, channel: Channel
) -> None:
    # Given two orders whose events are parked for one reason, and a message that failed for another
    settings = installation()
    for _ in range(2):
        event_id = str(publish(settings, place(settings)))
        park(channel, event_id, "the shelf is locked", id=event_id)
    park_created(channel, exception="KeyError")

    # When the link of the cause is followed, and the form that it has filled in is sent
    html = get(console, "/orders").text
    (link,) = re.findall(r'href="(/parked/inventory/plan[^"]+)"', html)
    made = follow(console, link)

    # Then the page of the plan has the messages of the cause, and none has moved
    def is_made() -> None:
        page = get(console, made.location).text
        assert 'aria-label="2 planned"' in page
        assert "Run the plan" in page

    assert "2 orders: " in html
    assert made.location.startswith("/parked/inventory/plans/")
    eventually(is_made)
    assert ids(channel, "inventory.queue") == []


def test_a_paused_service_is_resumed_where_its_orders_are_stuck(
    console: FlaskClient, installation: Installation
) -> None:
    # Given orders that wait for a paused service
    settings = installation()
    orders = [place(settings) for _ in range(2)]
    for order_id in orders:
        publish(settings, order_id)
    pauses.begin(settings, INVENTORY, reason="release 12 is wrong", operator="ada")

    # When the orders are shown
    stuck, order = get(console, "/orders").text, get(console, "/orders", id=str(orders[0])).text

    # Then the pages name the pause and the operator, and have the form that resumes the service
    for html in (stuck, order):
        assert "inventory is paused by ada: release 12 is wrong" in html
        assert 'action="/services/inventory/resume"' in html
    assert "2 orders: " in stuck

    # When it is sent from each page, then the result is shown there
    for origin, page in ((str(orders[0]), f"/orders?id={orders[0]}"), ("all", "/orders")):
        assert f'name="order" value="{origin}"' in (order if origin != "all" else stuck)
        form = {"token": token(console), "order": origin}
        response = console.post("/services/inventory/resume", data=form, auth=LOGIN)
        assert response.location == page
    assert pauses.read_all(settings).paused == {}


@pytest.mark.parametrize("origin", ["", "//evil.example", "none"])
def test_a_repair_returns_only_to_a_page_of_orders(
    console: FlaskClient, installation: Installation, origin: str
) -> None:
    installation()
    form = {"token": token(console), "order": origin}

    response = console.post("/services/fraud/resume", data=form, auth=LOGIN)

    assert response.location == "/overview"


def test_a_discarded_event_leads_to_the_discarded_messages(
    console: FlaskClient, installation: Installation, channel: Channel
) -> None:
    # Given an order whose event was discarded
    settings = installation()
    order_id = place(settings)
    event_id = str(publish(settings, order_id))
    park(channel, event_id, "the shelf is locked")
    assert discard(console, "inventory", event_id).status_code == 303

    # Then it links to the discarded messages, to the history, and to the cancellation
    html = get(console, "/orders").text
    assert "order.created is discarded at inventory" in html
    assert 'href="/parked/groups#discarded"' in html
    assert f'href="/parked/inventory/history?id={event_id}"' in html
