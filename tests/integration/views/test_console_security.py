"""The web console against forged requests, hostile messages and wrong passwords."""

from uuid import uuid4

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from testkit.eventually import eventually
from testkit.processes.web_console import HOSTILE, PASSWORD, get, ids, park, parked_ids, secret
from testkit.processes.web_console import token as valid_token
from testkit.servers.infrastructure import Infrastructure


def test_hostile_text_is_escaped_on_every_page(console: FlaskClient, channel: Channel) -> None:
    # Given a parked message full of markup
    hostile_id = f'"{HOSTILE}'
    park(channel, hostile_id, HOSTILE, subject=HOSTILE, customer=HOSTILE)

    # When every page that shows it is loaded
    pages = [
        get(console, "/parked").text,
        get(console, "/parked/inventory/message", id=hostile_id).text,
        get(console, "/parked/inventory/redrive", id=hostile_id).text,
        get(console, "/parked/inventory/discard", id=hostile_id).text,
        get(console, "/orders", id=HOSTILE).text,
    ]

    # Then the markup is escaped
    for html in pages:
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert" not in html
        assert "<img src=x" not in html


@pytest.mark.parametrize("token", [{}, {"token": "x"}], ids=["no token", "another token"])
def test_a_forged_redrive_moves_nothing(
    console: FlaskClient, channel: Channel, token: dict[str, str]
) -> None:
    # Given a parked message
    park(channel, "e-1")

    # When a redrive is posted without a valid token
    form = {"id": "e-1"} | token
    answer = console.post("/parked/inventory/redrive", data=form, auth=("operator", PASSWORD))
    confirmation = get(console, "/parked/inventory/redrive", id="e-1")

    # Then it is rejected, and the page with the confirmation moves nothing
    assert answer.status_code == 403
    assert confirmation.status_code == 200
    assert ids(channel, "inventory.queue") == []
    assert ids(channel, "inventory.dlq") == ["e-1"]


@pytest.mark.parametrize("token", [{}, {"token": "x"}], ids=["no token", "another token"])
def test_a_forged_discard_deletes_nothing(
    console: FlaskClient, channel: Channel, token: dict[str, str]
) -> None:
    # Given a parked message
    park(channel, "e-1")

    # When a discard is posted without a valid token
    form = {"id": "e-1"} | token
    answer = console.post("/parked/inventory/discard", data=form, auth=("operator", PASSWORD))
    confirmation = get(console, "/parked/inventory/discard", id="e-1")

    # Then it is rejected, and the page with the confirmation deletes nothing
    assert answer.status_code == 403
    assert confirmation.status_code == 200
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]


@pytest.mark.parametrize("action", ["redrive", "discard"])
def test_a_token_is_useless_without_the_password(
    console: FlaskClient, channel: Channel, action: str
) -> None:
    # Given a parked message and a valid token
    park(channel, "e-1")
    form = {"id": "e-1", "token": valid_token(console)}

    # When an action is posted with a wrong password
    answer = console.post(f"/parked/inventory/{action}", data=form, auth=("operator", "wrong"))

    # Then it is rejected
    assert answer.status_code == 401
    assert ids(channel, "inventory.queue") == []
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]


def test_an_unavailable_database_is_reported_without_a_password(
    console: FlaskClient, servers: Infrastructure
) -> None:
    # When pages need databases that do not exist
    overview, levels = get(console, "/overview"), get(console, "/stock")
    order = get(console, "/orders", id=str(uuid4()))

    # Then each page names PostgreSQL, and no page contains the password
    assert overview.text.count("is unavailable.</strong> PostgreSQL: ") == 5
    assert levels.status_code == 503
    assert "PostgreSQL: " in levels.text
    assert "PostgreSQL: " in order.text
    for answer in (overview, levels, order):
        assert secret(servers, "console.database") not in answer.text


@pytest.mark.parametrize(
    "path", ["/stock?sku=%00", "/parked/inventory/groups/%00", "/orders?id=%00"]
)
def test_a_page_with_nul_in_its_address_is_a_bad_request(console: FlaskClient, path: str) -> None:
    assert console.get(path, auth=("operator", PASSWORD)).status_code == 400


def test_a_login_with_nul_is_a_bad_request(console: FlaskClient) -> None:
    by_form = console.post("/login", data={"name": "a\0", "password": PASSWORD})
    by_header = console.get("/stock", auth=("a\0", PASSWORD))

    assert (by_form.status_code, by_header.status_code) == (400, 400)


def test_a_form_with_nul_is_a_bad_request(console: FlaskClient) -> None:
    form = {"reason": "a\0", "token": "x"}

    response = console.post("/services/inventory/pause", data=form, auth=("operator", PASSWORD))

    assert response.status_code == 400
