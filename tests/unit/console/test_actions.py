"""Actions in the web console while servers are down: each problem is a message on a page."""

import re
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.exc import OperationalError

from console.actions import parked as redrives
from console.parking import discards
from console.parking import edit as edits
from console.settings import ConsoleSettings
from console.web.app import create_app
from console.web.csrf import CHANGING
from testkit.processes.web_console import PASSWORD, token
from tests.support.unreachable_servers import SETTINGS

LOGIN = ("operator", PASSWORD)

#: They change nothing by themselves, or change an order through the API.
EXCEPT = {
    *("login.enter", "login.leave", "orders.reveal", "parked.preview_edit"),
    *("orders.cancel", "orders.ship"),
}

VALUES = {
    "service": "inventory",
    "key": "0123456789ab",
    "plan_id": 1,
    "name": "vera",
    "order_id": UUID(int=1),
}

FORM = {
    "id": "e-1",
    "digest": "0" * 64,
    "reason": "a test",
    "redrive": "yes",
    "days": "1",
    "text": "a note",
}


@pytest.fixture(scope="module")
def app() -> Flask:
    """A web console while all servers are down."""
    return create_app(ConsoleSettings(**SETTINGS))


@pytest.fixture
def page(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def _without_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the actions that first use the broker reach their database, which is down."""

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("the server is down"))

    for module, name in ((redrives, "redrive"), (discards, "discard"), (edits, "read")):
        monkeypatch.setattr(module, name, fail)


@pytest.mark.usefixtures("_without_databases")
def test_a_failed_database_is_a_message_after_every_action(page: FlaskClient) -> None:
    # Given every action
    rules = [
        rule
        for rule in page.application.url_map.iter_rules()
        if CHANGING & set(rule.methods or ()) and rule.endpoint not in EXCEPT
    ]
    urls = page.application.url_map.bind("localhost")
    form = FORM | {"token": token(page)}

    for rule in rules:
        # When it is sent, and the database fails
        values = {name: VALUES[name] for name in rule.arguments}
        response = page.post(urls.build(rule.endpoint, values), data=form, auth=LOGIN)

        # Then it leads to a page with the problem
        assert response.status_code == 303, (rule.endpoint, response.text)
        shown = page.get(response.location.partition("#")[0], auth=LOGIN).text
        problem = re.search(r'class="note wrong" role="status">[^<]*PostgreSQL: [^<]+<', shown)
        assert problem, (rule.endpoint, shown)
    assert len(rules) > 10


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501])
@pytest.mark.parametrize(
    "path",
    [
        "/parked/inventory/discard",
        "/parked/inventory/edit",
        "/parked/inventory/edit/preview",
        "/services/inventory/pause",
        f"/orders/{UUID(int=1)}/cancel",
    ],
)
def test_an_invalid_reason_is_rejected(page: FlaskClient, path: str, reason: str) -> None:
    form = FORM | {"token": token(page), "reason": reason}

    response = page.post(path, data=form, auth=LOGIN)

    # The preview reads the message first.
    assert response.status_code == (503 if path.endswith("preview") else 400)
