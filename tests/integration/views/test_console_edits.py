"""Edits of parked messages in the web console."""

import re
from html import unescape

import pytest
from amqp import Channel, Message
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from console.settings import DatabaseSettings
from eventbus.events import codec
from testkit.data.parked import drained, park_created, parked_messages
from testkit.eventually import eventually
from testkit.processes.web_console import PASSWORD, get, hidden, parked_ids, preview_edit

LOGIN = ("operator", PASSWORD)


PAYLOAD = (
    '{"customer_email": "ada@example.com", "currency": "EUR", "total": 100,'
    ' "lines": [{"sku": "TEA", "quantity": %s, "unit_price": 100}]}'
)


def confirm(console: FlaskClient, previewed: TestResponse) -> TestResponse:
    """Confirm an edit that was previewed."""
    return console.post("/parked/inventory/edit", data=hidden(previewed), auth=LOGIN)


def test_an_edit_is_previewed_confirmed_and_redriven(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given the form of a parked message's payload
    event_id = park_created(channel)
    message = get(console, "/parked/inventory/message", id=str(event_id)).text
    form = get(console, "/parked/inventory/edit", id=str(event_id)).text
    assert f'href="/parked/inventory/edit?id={event_id}&amp;digest=' in message
    assert "&#34;quantity&#34;: 1" in form

    # When the payload is edited
    previewed = preview_edit(console, event_id, PAYLOAD % 2, "yes")

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
    invalid = preview_edit(console, event_id, PAYLOAD % 0, "yes")
    broken = preview_edit(console, event_id, '{"total": ', "no")

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
    previewed = preview_edit(console, event_id, PAYLOAD % 2, "yes")
    assert confirm(console, preview_edit(console, event_id, PAYLOAD % 3, "no")).status_code == 303

    # When the preview is confirmed
    get(console, "/parked")
    confirm(console, previewed)

    # Then the message is not redriven
    assert (
        f"not parked by inventory with the body that was shown: {event_id}"
        in get(console, "/parked").text
    )
    assert drained(channel, "inventory.queue") == []


def test_the_message_that_is_shown_is_edited(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given two versions of a message, the older of which was edited
    park_created(channel)
    (message,) = drained(channel, "inventory.dlq")
    other = Message(message.body.replace(b"TEA", b"OIL"), **message.properties)
    for version in (other, message):
        channel.basic_publish(version, exchange="inventory.retry", routing_key="parked")

    def links() -> list[str]:
        html = get(console, "/parked").text
        found = re.findall(r'href="(/parked/inventory/message\?[^"]*)"', html)
        assert len(found) == 2
        return [unescape(link) for link in found]

    # When the page of the second one leads to its form, and the form is sent
    shown = console.get(eventually(links)[1], auth=LOGIN).text
    (link,) = re.findall(r'href="(/parked/inventory/edit\?[^"]*)"', shown)
    form = console.get(unescape(link), auth=LOGIN)
    fields = {"payload": PAYLOAD % 2, "reason": "a typing error", "redrive": "yes"}
    previewed = console.post(
        "/parked/inventory/edit/preview", data=hidden(form) | fields, auth=LOGIN
    )
    confirm(console, previewed)

    # Then the form has the payload of the second one, which is redriven; the first one stays
    assert "TEA" in form.text
    assert "OIL" not in form.text
    assert len(drained(channel, "inventory.queue")) == 1
    (left,) = eventually(lambda: parked_messages(channel))
    assert b"OIL" in bytes(left.body)


@pytest.mark.parametrize(
    "fields", [{"reason": ""}, {"reason": "x" * 501}, {"redrive": "maybe"}, {"redrive": ""}]
)
def test_an_edit_without_reason_or_choice_is_rejected(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings, fields: dict[str, str]
) -> None:
    event_id = park_created(channel)
    form = hidden(preview_edit(console, event_id, PAYLOAD % 2, "yes")) | fields

    for path in ("/parked/inventory/edit/preview", "/parked/inventory/edit"):
        assert console.post(path, data=form, auth=LOGIN).status_code == 400


def test_a_forged_edit_changes_nothing(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given the confirmation of an edit
    event_id = park_created(channel)
    form = hidden(preview_edit(console, event_id, PAYLOAD % 2, "yes"))

    # When it is posted without the token of the page
    answer = console.post("/parked/inventory/edit", data=form | {"token": "x"}, auth=LOGIN)

    # Then it is rejected
    assert answer.status_code == 403
    assert drained(channel, "inventory.queue") == []
