"""Parked messages in the web console, listed and shown."""

from collections.abc import Callable

from amqp import Channel, Message
from flask.testing import FlaskClient

from common.kombu_topology import CONSUMERS
from console.settings import DatabaseSettings
from testkit.data.parked import held
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.processes.web_console import (
    get,
    park,
    parked_ids,
)


def test_parked_messages_are_listed_and_an_empty_list_is_normal(
    console: FlaskClient, channel: Channel
) -> None:
    # Given one parked message
    assert get(console, "/parked").text.count("No messages are parked. This is normal.") == len(
        CONSUMERS
    )
    park(channel, "e-1", subject="0198a7c1-0000-7000-8000-000000000001")

    # When the page is loaded
    html = get(console, "/parked").text

    # Then it lists the message, and the other services have none
    assert html.count("No messages are parked.") == len(CONSUMERS) - 1
    assert "<strong>ValueError</strong>: no way" in html
    assert 'href="/orders?id=0198a7c1-0000-7000-8000-000000000001"' in html
    assert "1 parked." in html


def test_a_message_is_shown_in_full_and_stays_parked(
    console: FlaskClient, channel: Channel
) -> None:
    # Given many parked messages
    event_ids = [f"e-{n}" for n in range(50)]
    for event_id in event_ids:
        park(channel, event_id, colour=event_id)

    # When a parked message and an unknown one are requested
    html = get(console, "/parked/inventory/message", id="e-2").text
    unknown = get(console, "/parked/inventory/message", id="e-99")

    # Then the parked message is shown in full, and all stay parked
    assert "&#34;colour&#34;: &#34;e-2&#34;" in html
    assert "x-failure-exception" in html
    assert unknown.status_code == 503
    assert "not parked by inventory: e-99" in unknown.text
    assert eventually(lambda: parked_ids(channel)) == event_ids


def test_a_message_that_is_not_an_event_is_listed(console: FlaskClient, channel: Channel) -> None:
    message = Message(b"\xff not JSON")
    channel.basic_publish(message, exchange="inventory.retry", routing_key="parked")

    def listed() -> None:
        html = get(console, "/parked").text
        assert "unknown" in html
        # The console assigns an id, for the actions on the message.
        assert "id=unnamed-" in html

    eventually(listed)


def test_messages_that_another_reader_holds_are_reported(
    console: FlaskClient, channel: Channel
) -> None:
    # Given a parked message, held by another reader
    park(channel, "e-1")
    with held(channel, 1):
        # When the pages are loaded
        pages = [get(console, path).text for path in ("/parked", "/parked/groups")]

    # Then they report the reader, rather than an empty parking lot
    for html in pages:
        assert html.count("No messages are parked. This is normal.") == len(CONSUMERS) - 1
        assert "nother reader" in html


def test_parked_messages_are_shown_by_cause_with_plans(
    console: FlaskClient, channel: Channel, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given two messages of one cause, and a plan
    settings = installation()
    for event_id in ("e-1", "e-2"):
        park(channel, event_id)
    environment = {"DATABASE_SUFFIX": settings.database_suffix}
    planned = orderctl(environment, "parked", "plan", "inventory")
    assert planned.exit_code == 0, planned.output

    # When the page is loaded
    html = get(console, "/parked/groups").text

    # Then it has one group with the newest message, and the plan
    assert "<strong>ValueError</strong>" in html
    assert 'data-label="messages" class="number">2</td>' in html
    assert "/parked/inventory/message?id=e-2" in html
    assert "2 skipped" in html
    assert eventually(lambda: parked_ids(channel)) == ["e-1", "e-2"]


def test_the_page_of_causes_works_without_the_console_database(
    console: FlaskClient, channel: Channel
) -> None:
    park(channel, "e-1")

    html = get(console, "/parked/groups").text

    assert "<strong>ValueError</strong>" in html
    assert "The plans are unavailable." in html
