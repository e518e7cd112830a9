"""Failure groups and histories of parked messages in the web console."""

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from console.parking.groups import key_of
from console.settings import DatabaseSettings
from testkit.data.parked import park_created
from testkit.processes.orderctl import orderctl
from testkit.processes.web_console import HOSTILE, PASSWORD, get, hidden, park, preview_edit

LOGIN = ("operator", PASSWORD)


KEY = key_of("order.created", "ValueError", None)


def test_a_group_is_noted_assigned_and_muted_on_its_page(
    console: FlaskClient, channel: Channel, installed: DatabaseSettings
) -> None:
    # Given a listed group
    park(channel, "e-1")
    page = f"/parked/inventory/groups/{KEY}"
    assert f'href="{page}"' in get(console, "/parked/groups").text
    token = hidden(get(console, page))

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
    token = hidden(get(console, page))

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
    token = hidden(get(console, page))
    for name, field in (("note", "text"), ("assign", "owner")):
        console.post(f"{page}/{name}", data=token | {field: HOSTILE}, auth=LOGIN)

    # When every page that shows it is loaded
    pages = [
        get(console, page).text,
        get(console, "/parked/groups").text,
        get(console, "/parked/inventory/edit", id=hostile_id).text,
        get(console, "/parked/inventory/history", id=hostile_id).text,
        preview_edit(console, hostile_id, f'"{HOSTILE}"', "no").text,
    ]

    # Then the markup is escaped
    for html in pages:
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert" not in html
        assert "<img src=x" not in html
