"""Edits, failure groups and histories of parked messages in the web console."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from console.parking.groups import key_of
from console.settings import DatabaseSettings
from eventbus.events import codec
from testkit.data.parked import drained, park_created
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.processes.web_console import HOSTILE, PASSWORD, get, park, parked_ids

LOGIN = ("operator", PASSWORD)

KEY = key_of("order.created", "ValueError", None)

PAYLOAD = (
    '{"customer_email": "ada@example.com", "currency": "EUR", "total": 100,'
    ' "lines": [{"sku": "TEA", "quantity": %s, "unit_price": 100}]}'
)


@pytest.fixture
def installed(installation: Callable[[], DatabaseSettings]) -> DatabaseSettings:
    """The databases, and the settings of `orderctl` for them."""
    return installation()


def hidden(html: str) -> dict[str, str]:
    """Return the hidden fields of a page's form."""
    fields = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html)
    return {name: unescape(value) for name, value in fields}


def preview(console: FlaskClient, event_id: object, payload: str, redrive: str) -> TestResponse:
    """Fill in the form of an edit, and send it."""
    form = get(console, "/parked/inventory/edit", id=str(event_id)).text
    fields = {"payload": payload, "reason": "a typing error", "redrive": redrive}
    return console.post("/parked/inventory/edit/preview", data=hidden(form) | fields, auth=LOGIN)


def confirm(console: FlaskClient, previewed: TestResponse) -> TestResponse:
    """Confirm an edit that was previewed."""
    return console.post("/parked/inventory/edit", data=hidden(previewed.text), auth=LOGIN)


def test_an_edit_is_previewed_confirmed_and_redriven(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given the form of a parked message's payload
    event_id = park_created(channel)
    message = get(console, "/parked/inventory/message", id=str(event_id)).text
    form = get(console, "/parked/inventory/edit", id=str(event_id)).text
    assert f'href="/parked/inventory/edit?id={event_id}"' in message
    assert "&#34;quantity&#34;: 1" in form

    # When the payload is edited
    previewed = preview(console, event_id, PAYLOAD % 2, "yes")

    # Then the page shows the difference and the effect, and nothing has changed
    assert previewed.status_code == 200
    assert "<code>$.data.lines[0].quantity</code>" in previewed.text
    assert "<del>1</del>" in previewed.text
    assert "<ins>2</ins>" in previewed.text
    assert "<dd>handle</dd>" in previewed.text
    assert drained(channel, "inventory.queue") == []

    # When it is confirmed
    response = confirm(console, previewed)

    # Then the edited message is redriven, and its history has the edit
    assert (response.status_code, response.location) == (303, "/parked")
    assert f"{event_id} edited and redriven to inventory.queue" in get(console, "/parked").text
    (copy,) = drained(channel, "inventory.queue")
    assert codec.read(copy.body).id == event_id
    history = get(console, "/parked/inventory/history", id=str(event_id)).text
    assert "a typing error; $.data.lines[0].quantity: 1 → 2" in history
    assert 'data-label="by">operator</td>' in history


def test_an_invalid_edit_shows_the_path_and_keeps_the_text(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given a parked message
    event_id = park_created(channel)

    # When its edit violates the contract, or is not JSON
    invalid = preview(console, event_id, PAYLOAD % 0, "yes")
    broken = preview(console, event_id, '{"total": ', "no")

    # Then the form has the path, the text and the reason
    assert (invalid.status_code, broken.status_code) == (422, 422)
    assert "at `$.data.lines[0].quantity`" in invalid.text
    assert "&#34;quantity&#34;: 0" in invalid.text
    assert 'value="a typing error"' in invalid.text
    assert "the payload is not JSON" in broken.text
    assert eventually(lambda: parked_ids(channel)) == [str(event_id)]


def test_an_edit_of_a_message_that_has_changed_is_rejected(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given a preview of a message, which is edited by someone else
    event_id = park_created(channel)
    previewed = preview(console, event_id, PAYLOAD % 2, "yes")
    assert confirm(console, preview(console, event_id, PAYLOAD % 3, "no")).status_code == 303

    # When the preview is confirmed
    get(console, "/parked")
    confirm(console, previewed)

    # Then the message is not redriven
    assert f"{event_id} was changed after the preview" in get(console, "/parked").text
    assert drained(channel, "inventory.queue") == []


@pytest.mark.parametrize(
    "fields", [{"reason": ""}, {"reason": "x" * 501}, {"redrive": "maybe"}, {"redrive": ""}]
)
def test_an_edit_without_reason_or_choice_is_rejected(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings, fields: dict[str, str]
) -> None:
    event_id = park_created(channel)
    form = hidden(preview(console, event_id, PAYLOAD % 2, "yes").text) | fields

    for path in ("/parked/inventory/edit/preview", "/parked/inventory/edit"):
        assert console.post(path, data=form, auth=LOGIN).status_code == 400


def test_a_forged_edit_changes_nothing(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given the confirmation of an edit
    event_id = park_created(channel)
    form = hidden(preview(console, event_id, PAYLOAD % 2, "yes").text)

    # When it is posted without the token of the page
    answer = console.post("/parked/inventory/edit", data=form | {"token": "x"}, auth=LOGIN)

    # Then it is rejected
    assert answer.status_code == 403
    assert drained(channel, "inventory.queue") == []


def test_a_group_is_noted_assigned_and_muted_on_its_page(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given a listed group
    park(channel, "e-1")
    page = f"/parked/inventory/groups/{KEY}"
    assert f'href="{page}"' in get(console, "/parked/groups").text
    token = hidden(get(console, page).text)

    # When it is noted, assigned and muted
    for name, fields in {
        "note": {"text": "a guess"},
        "assign": {"owner": "anna"},
        "mute": {"days": "3", "reason": "known"},
    }.items():
        response = console.post(f"{page}/{name}", data=token | fields, auth=LOGIN)
        assert (response.status_code, response.location) == (303, page)

    # Then its page has the changes and the journal
    html = get(console, page).text
    assert "a guess (operator, " in html
    assert "<dd>anna</dd>" in html
    assert html.count('data-label="by">operator</td>') == 3
    # And the list has them
    listed = get(console, "/parked/groups").text
    assert "<strong>anna</strong>" in listed
    assert "muted until" in listed

    # When the mute is ended, and the owner is removed
    for name, field in (("mute", "days"), ("assign", "owner")):
        value = "0" if name == "mute" else ""
        console.post(f"{page}/{name}", data=token | {field: value}, auth=LOGIN)

    # Then the list shows only the note
    listed = get(console, "/parked/groups").text
    assert "muted until" not in listed
    assert "<strong>anna</strong>" not in listed
    assert "a guess" in listed


def test_a_group_without_messages_is_listed_as_earlier(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given a listed group whose message was redriven
    park(channel, "e-1")
    get(console, "/parked/groups")
    environment = {"DATABASE_SUFFIX": installed.database_suffix}
    assert orderctl(environment, "parked", "redrive", "inventory", "--all").exit_code == 0

    # Then the page lists it as an earlier one
    html = get(console, "/parked/groups").text
    assert "Earlier: 1 without parked messages" in html
    assert f"/parked/inventory/groups/{KEY}" in html


@pytest.mark.parametrize("days", ["", "-1", "91", "1.5", "soon"])
def test_a_mute_without_a_valid_duration_is_rejected(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings, days: str
) -> None:
    park(channel, "e-1")
    get(console, "/parked/groups")
    page = f"/parked/inventory/groups/{KEY}"
    token = hidden(get(console, page).text)

    assert console.post(f"{page}/mute", data=token | {"days": days}, auth=LOGIN).status_code == 400
    assert get(console, "/parked/inventory/groups/0123").status_code == 503


def test_a_history_is_shown_without_the_console_database(
    console: FlaskClient, channel: Channel
) -> None:
    # Given a parked message, and no databases
    event_id = park_created(channel)

    # When its history is shown
    html = get(console, "/parked/inventory/history", id=str(event_id)).text

    # Then it has the attempts, and names the sources that are unavailable
    assert "attempt 1, ValueError: no" in html
    assert "The record of plans, edits and discards is unavailable." in html
    assert get(console, "/parked/inventory/history").status_code == 400


def test_hostile_text_is_escaped_on_the_pages_of_repairs(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given a parked message and a group full of markup
    hostile_id = f'"{HOSTILE}'
    park(channel, hostile_id, HOSTILE, data={"customer_email": HOSTILE})
    get(console, "/parked/groups")
    page = f"/parked/inventory/groups/{KEY}"
    token = hidden(get(console, page).text)
    for name, field in (("note", "text"), ("assign", "owner")):
        console.post(f"{page}/{name}", data=token | {field: HOSTILE}, auth=LOGIN)

    # When every page that shows it is loaded
    pages = [
        get(console, page).text,
        get(console, "/parked/groups").text,
        get(console, "/parked/inventory/edit", id=hostile_id).text,
        get(console, "/parked/inventory/history", id=hostile_id).text,
        preview(console, hostile_id, f'"{HOSTILE}"', "no").text,
    ]

    # Then the markup is escaped
    for html in pages:
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert" not in html
        assert "<img" not in html
