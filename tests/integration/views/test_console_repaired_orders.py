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
    form = hidden(console.get(path, auth=LOGIN))
    return console.post(path.partition("?")[0], data=form, auth=LOGIN)


def test_a_redrive_returns_to_the_order(
    console: FlaskClient, installation: Installation, channel: Channel
) -> None:
    # Given two orders whose events are parked at the inventory
    settings = installation()
    orders = place(settings), place(settings)
    for order_id in orders:
        park(channel, str(publish(settings, order_id)), "the shelf is locked")

    # When the links of an order and of the cause that both share are followed
    one, all_ = get(console, "/orders", id=str(orders[0])).text, get(console, "/orders").text
    (link,) = re.findall(r'href="(/parked/inventory/redrive[^"]+)"', one)
    (shared,) = re.findall(r'href="(/parked/inventory/redrive\?order=all)"', all_)
    redriven, all_redriven = (follow(console, path) for path in (link, shared))

    # Then the results are shown on the pages that the operator came from
    assert "2 orders: " in all_
    assert redriven.location == f"/orders?id={orders[0]}"
    assert "1 redriven to inventory.queue" in get(console, "/orders", id=str(orders[0])).text
    assert all_redriven.location == "/orders"
    assert len(ids(channel, "inventory.queue")) == 2


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
