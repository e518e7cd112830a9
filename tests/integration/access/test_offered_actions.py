"""The web console offers only the pages and the actions that an account may use."""

import re
from collections.abc import Callable
from html import unescape
from uuid import UUID

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select, update
from werkzeug.test import TestResponse

from common.kombu_topology import ANALYTICS, FRAUD, NOTIFICATION, ORDER
from console.access.models import Role
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from eventbus.outbox.table import outbox
from order_app.storage.models import OrderRow
from testkit.data.parked import park, park_created
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.processes.web_console import place
from testkit.servers.databases import Databases

VIEWED = {
    "overview.show",
    "overview.show_service",
    "overview.show_exchange",
    "orders.show",
    "parked.show",
    "parked.message",
    "parked.show_groups",
    "parked.show_group",
    "parked.show_history",
    "parked.show_plan",
    "stock.show",
    "analytics.show",
}
#: Pages that ask for confirmation, and forms, of actions on a message, its group or a service.
DECIDED = {"orders.confirm_cancel", "orders.confirm_ship"}
ASKED = {
    "parked.confirm",
    "parked.confirm_discard",
    "parked.confirm_plan",
    "parked.edit",
    "pauses.confirm",
} | DECIDED
SENT = {
    "parked.redrive",
    "parked.discard",
    "parked.preview_edit",
    "parked.note",
    "parked.assign",
    "parked.mute",
    "parked.make_plan",
    "parked.run_plan",
    "parked.abort_plan",
    "pauses.begin",
    "pauses.end",
    "orders.cancel",
    "orders.ship",
}
ADMINISTERED = {"people.show", "audit.show"}

#: Pages without a link, and what is not a page.
UNLINKED = {"login.form", "start", "ready", "metrics.page", "overview.stream", "static"}

ACCOUNTS = {
    "a viewer": (Role.VIEWER, (), VIEWED, set[str]()),
    "an operator": (Role.OPERATOR, (), VIEWED | ASKED, SENT | {"orders.reveal"}),
    "an operator of orders": (
        Role.OPERATOR,
        ("order",),
        VIEWED | {"pauses.confirm"} | DECIDED,
        {"orders.reveal", "orders.cancel", "orders.ship", "pauses.begin"},
    ),
    "an administrator": (
        Role.ADMIN,
        (),
        VIEWED | ASKED | ADMINISTERED,
        SENT | {"orders.reveal", "people.disable"},
    ),
}

LOGOUT = "/logout"


@pytest.fixture
def order(
    channel: Channel, database: DatabaseSettings, env: dict[str, str], databases: Databases
) -> UUID:
    """An order with an event that the inventory has parked and a plan redrives; one is discarded.

    The fraud check is paused, and another order is confirmed.
    """
    databases.create_all(env["DATABASE_SUFFIX"], (NOTIFICATION, FRAUD, ANALYTICS))
    confirmed, order_id = place(database), place(database)
    with transaction(database, ORDER) as session:
        values = {"status": "CONFIRMED", "decided_at": func.now()}
        session.execute(update(OrderRow).where(OrderRow.id == confirmed).values(values))
        session.execute(delete(outbox).where(outbox.c.subject == confirmed))
        event_id = str(session.scalars(select(outbox.c.event_id)).one())
        session.execute(update(outbox).values(sent_at=func.now()))
    event = {"id": event_id, "subject": str(order_id)}
    park(channel, event_id, event=event, type="order.created")
    other = str(park_created(channel))
    arguments = ("parked", "discard", "inventory", "--id", other, "--yes", "--reason", "a test")
    plan = ("parked", "plan", "inventory")
    for command in (arguments, ("pause", "fraud", "--reason", "a test"), plan):
        result = orderctl(env, *command)
        assert result.exit_code == 0, result.output
    return order_id


def followed(client: FlaskClient, start: str) -> dict[str, TestResponse]:
    """Return the page at an address, and all pages that links lead to, by their addresses."""
    found: dict[str, TestResponse] = {}
    left = [start]
    while left:
        path = left.pop()
        if path not in found:
            found[path] = eventually(lambda path=path: loaded(client, path))
            links = re.findall(r'<a [^>]*href="(/[^"#]*)', found[path].text)
            left += [unescape(link) for link in links]
    return found


def loaded(client: FlaskClient, path: str) -> TestResponse:
    response = client.get(path)
    # The page that was loaded before may still hold messages for a moment.
    assert "nother reader" not in response.text
    return response


def actions(pages: dict[str, TestResponse]) -> set[str]:
    """Return the addresses of the forms that change data, without that of the logout."""
    found = {
        unescape(action)
        for page in pages.values()
        for action in re.findall(r'<form method="post" action="([^"]*)"', page.text)
    }
    assert LOGOUT in found
    return found - {LOGOUT}


def endpoints(client: FlaskClient, paths: set[str], method: str) -> set[str]:
    address = client.application.url_map.bind("localhost")
    return {str(address.match(path.partition("?")[0], method)[0]) for path in paths}


@pytest.mark.parametrize("account", ACCOUNTS)
def test_no_link_and_no_form_of_a_page_is_refused(
    logged_in: Callable[..., FlaskClient], order: UUID, account: str
) -> None:
    # Given the pages to which links lead, and another person
    role, services, viewed, sent = ACCOUNTS[account]
    logged_in("vera", Role.VIEWER)
    client = logged_in("ivy", role, *services)
    client.get("/parked/groups")
    pages = followed(client, f"/orders?id={order}")

    # When each of their forms is sent, without values
    (token,) = set(re.findall(r'name="token" value="(\w+)"', pages[f"/orders?id={order}"].text))
    forms = actions(pages)
    statuses = {path: client.post(path, data={"token": token}).status_code for path in forms}

    # Then neither a link nor a form is refused
    assert [path for path, page in pages.items() if page.status_code == 403] == []
    assert [path for path, status in statuses.items() if status == 403] == []
    # And every page and every form is offered that the account may use
    assert endpoints(client, set(pages), "GET") == viewed
    assert endpoints(client, forms, "POST") == sent


def test_every_page_is_offered_to_an_account(console: FlaskClient) -> None:
    rules = console.application.url_map.iter_rules()

    pages = {rule.endpoint for rule in rules if "GET" in (rule.methods or ())}

    assert pages == VIEWED | ASKED | ADMINISTERED | UNLINKED
