"""The pages of a large parking lot, which show its index, and changes in the background."""

import re
import threading
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import parse_qsl

import pytest
from amqp import Channel
from flask.testing import FlaskClient
from sqlalchemy import select

from common.kombu_topology import CONSOLE, INVENTORY
from console.access.models import AuditRow
from console.actions import parked as actions
from console.databases.service_database import transaction
from console.parking.groups import key_of
from console.parking.index import reading
from console.settings import ConsoleSettings, DatabaseSettings
from console.web import parked as pages
from console.web.parking import changes
from testkit.data.parked import drained, held, park_created
from testkit.data.parked import park as data_park
from testkit.eventually import becomes, eventually
from testkit.processes.web_console import discard, get, hidden, ids, park, redrive

Installation = Callable[[], DatabaseSettings]


@pytest.fixture
def settings(console_settings: dict[str, Any], installation: Installation) -> ConsoleSettings:
    """The settings of the console, with its database."""
    installation()
    return ConsoleSettings(**console_settings)


def indexed(settings: ConsoleSettings, channel: Channel, count: int) -> None:
    """Read a parking lot with so many messages into the index."""
    becomes(lambda: channel.queue_declare("inventory.dlq", passive=True).message_count, count)
    reading.read(settings, INVENTORY)


def test_the_pages_of_a_large_parking_lot_show_its_index(
    console: FlaskClient, channel: Channel, settings: ConsoleSettings
) -> None:
    # Given indexed messages, which another reader holds
    event_id = str(park_created(channel))
    park(channel, "e-2")
    indexed(settings, channel, 2)
    query = {"id": event_id}
    with held(channel, 2):
        # When the pages are loaded
        html = {
            path: get(console, f"/parked{path}", **query).text
            for path in (
                "",
                "/groups",
                *(f"/inventory/{kind}" for kind in ("message", "discard", "edit", "history")),
            )
        }

    # Then they show the messages, and the time of the index
    assert "2 parked as of" in html[""]
    assert event_id in html[""]
    assert html["/groups"].count("As of ") == 1
    assert "As of " in html["/inventory/message"]
    for kind in ("message", "discard", "edit"):
        assert "customer_email" in html[f"/inventory/{kind}"]
    assert "ValueError" in html["/inventory/history"]


@pytest.mark.parametrize("is_indexed", [False, True])
def test_parked_messages_are_found_by_event_order_and_group(
    console: FlaskClient, channel: Channel, settings: ConsoleSettings, *, is_indexed: bool
) -> None:
    # Given messages of two orders, and of two groups
    park(channel, "e-1", subject="order-1")
    park(channel, "e-2", subject="order-2")
    data_park(channel, "e-3", exception="KeyError")
    if is_indexed:
        indexed(settings, channel, 3)
    becomes(lambda: channel.queue_declare("inventory.dlq", passive=True).message_count, 3)
    group = key_of("order.created", "KeyError", None)

    # When they are searched for
    def listed(**query: str) -> list[str]:
        html = get(console, "/parked", **query).text
        return re.findall(r"/parked/inventory/message\?id=([^&]+)&", html)

    # Then the list has the messages that match
    assert listed(find="e-1") == ["e-1"]
    assert listed(find="order-2") == ["e-2"]
    assert listed(service="inventory", group=group) == ["e-3"]
    assert listed(service="order") == []
    assert listed(find="e-9") == []
    assert "None of 3 is selected" in get(console, "/parked", find="e-9").text


def test_a_list_of_the_index_continues_on_the_next_page(
    console: FlaskClient,
    channel: Channel,
    settings: ConsoleSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given more indexed messages than a page lists
    monkeypatch.setattr(pages, "LIMIT", 2)
    for event_id in ("e-1", "e-2", "e-3"):
        park(channel, event_id)
    indexed(settings, channel, 3)

    # When the list and its next page are loaded
    first = get(console, "/parked").text
    (following,) = re.findall(r'href="/parked\?([^"]*after=[^"]*)"', first)
    second = get(console, "/parked", **dict(parse_qsl(unescape(following)))).text

    # Then they list all messages
    assert "the oldest 2 are shown" in first
    assert [name in first for name in ("id=e-1&", "id=e-2&", "id=e-3&")] == [True, True, False]
    assert [name in second for name in ("id=e-1&", "id=e-2&", "id=e-3&")] == [False, False, True]
    assert "Later messages" not in second
    assert get(console, "/parked", after="x" * 30).text.count("id=e-1&") > 0


def test_a_message_that_is_not_in_the_index_is_reported_with_the_time(
    console: FlaskClient, channel: Channel, settings: ConsoleSettings
) -> None:
    park(channel, "e-1")
    indexed(settings, channel, 1)

    answer = get(console, "/parked/inventory/message", id="e-2")

    assert answer.status_code == 503
    assert "not parked by inventory at" in answer.text


def test_a_body_that_the_index_does_not_keep_is_not_shown(
    console: FlaskClient,
    channel: Channel,
    settings: ConsoleSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given an indexed message whose body is not kept
    monkeypatch.setattr(reading, "BYTES", 0)
    event_id = str(park_created(channel))
    indexed(settings, channel, 1)

    # When its pages are loaded
    message = get(console, "/parked/inventory/message", id=event_id)
    edit = get(console, "/parked/inventory/edit", id=event_id)

    # Then they say so
    assert message.status_code == 200
    assert "The body is not shown." in message.text
    assert "orderctl parked edit inventory" in edit.text


def test_a_redriven_and_a_discarded_message_leave_the_index(
    console: FlaskClient, channel: Channel, settings: ConsoleSettings
) -> None:
    # Given three indexed messages
    for event_id in ("e-1", "e-2", "e-3"):
        park(channel, event_id)
    indexed(settings, channel, 3)

    # When one is redriven, and one is discarded
    redrive(console, "inventory", id="e-1")
    discard(console, "inventory", "e-2")

    # Then the list shows the third
    html = get(console, "/parked").text
    assert "id=e-3" in html
    assert "id=e-1" not in html
    assert "id=e-2" not in html


def test_a_message_that_has_left_the_parking_lot_is_not_changed(
    console: FlaskClient, channel: Channel, settings: ConsoleSettings
) -> None:
    # Given an indexed message that has left the parking lot, and another body of its event
    park(channel, "e-1")
    indexed(settings, channel, 1)
    drained(channel, "inventory.dlq")
    park(channel, "e-1", colour="red")
    form = hidden(get(console, "/parked/inventory/discard", id="e-1"))

    # When the operator redrives and discards what the page shows
    redrive(console, "inventory", **form)
    redriven = get(console, "/parked").text
    discard(console, "inventory", "e-1")
    discarded = get(console, "/parked").text

    # Then the other body stays parked
    assert "not parked by inventory: e-1" in redriven
    assert "not parked by inventory: e-1" in discarded
    assert eventually(lambda: ids(channel, "inventory.dlq")) == ["e-1"]


def test_a_change_that_takes_longer_than_a_page_continues(
    console: FlaskClient,
    channel: Channel,
    settings: ConsoleSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a redrive that takes longer than a page
    monkeypatch.setattr(changes, "PATIENCE", 0.0)
    may_end = threading.Event()

    def slowly(*arguments: Any, **named: Any) -> int:
        may_end.wait()
        return redrive_now(*arguments, **named)

    redrive_now = actions.redrive
    monkeypatch.setattr(pages.actions, "redrive", slowly)
    park(channel, "e-1")

    # When it is requested
    answer = redrive(console, "inventory", id="e-1")
    html = get(console, answer.headers["Location"]).text

    # Then the list shows that it continues
    assert "the parking lot is being read" in html
    assert "live.js" in html
    assert ids(channel, "inventory.queue") == []

    # And when it ends, its result, which is also recorded
    may_end.set()

    def ended() -> None:
        assert "1 redriven to inventory.queue" in get(console, "/parked").text

    eventually(ended)
    assert eventually(lambda: ids(channel, "inventory.queue")) == ["e-1"]
    with transaction(settings, CONSOLE) as session:
        lines = select(AuditRow.outcome).where(AuditRow.action == "parked.redrive")
        assert session.scalars(lines.order_by(AuditRow.id)).all() == ["begun", "begun", "done"]


def test_the_number_of_changes_in_the_background_has_a_limit(
    console: FlaskClient, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "RUNNING", 0)
    park(channel, "e-1")

    answer = redrive(console, "inventory", id="e-1")

    assert "0 changes are running" in get(console, answer.headers["Location"]).text
    assert eventually(lambda: ids(channel, "inventory.dlq")) == ["e-1"]


def test_the_failure_of_a_change_in_the_background_is_shown(
    console: FlaskClient, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PATIENCE", 0.0)

    redrive(console, "inventory", id="e-1")

    eventually(lambda: _shown(console, "not parked by inventory: e-1"))


def _shown(console: FlaskClient, text: str) -> None:
    assert text in get(console, "/parked").text
