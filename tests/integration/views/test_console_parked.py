"""Parked messages in the web console: listed, shown, redriven and discarded."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from amqp import Channel, Message
from flask.testing import FlaskClient

from common.kombu_topology import CONSUMERS
from console.settings import DatabaseSettings
from testkit.data.parked import drained, held
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.processes.web_console import (
    PASSWORD,
    confirm,
    discard,
    get,
    ids,
    park,
    parked_ids,
    redrive,
    token,
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


def test_a_single_message_is_redriven_and_reported(console: FlaskClient, channel: Channel) -> None:
    # Given two parked messages
    for event_id in ("e-1", "e-2"):
        park(channel, event_id)

    # When one is redriven
    response = redrive(console, "inventory", id="e-2")

    # Then the page reports it once, and the other stays parked
    assert (response.status_code, response.location) == (303, "/parked")
    assert "inventory: 1 redriven to inventory.queue" in get(console, "/parked").text
    assert "redriven" not in get(console, "/parked").text
    assert ids(channel, "inventory.queue") == ["e-2"]
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]


def test_all_messages_are_redriven(console: FlaskClient, channel: Channel) -> None:
    # Given two parked messages
    for event_id in ("e-1", "e-2"):
        park(channel, event_id)

    # When all are redriven
    redrive(console, "inventory")

    # Then both are in the queue
    assert "inventory: 2 redriven to inventory.queue" in get(console, "/parked").text
    assert ids(channel, "inventory.queue") == ["e-1", "e-2"]


def test_a_message_too_old_to_redrive_is_reported(console: FlaskClient, channel: Channel) -> None:
    # Given a parked message older than the limit
    old = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    park(channel, "e-1", time=old)

    # When all are redriven
    redrive(console, "inventory")

    # Then the page reports that it was left parked
    assert "1 left parked, older than PARKED_REDRIVE_DAYS" in get(console, "/parked").text
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]


def test_a_redrive_is_logged(
    console: FlaskClient,
    channel: Channel,
    installation: Callable[[], DatabaseSettings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    installation()
    park(channel, "e-1")

    with caplog.at_level("INFO"):
        redrive(console, "inventory", id="e-1")

    (record,) = [r for r in caplog.records if r.message == "redrive requested"]
    assert vars(record)["service"] == "inventory"
    assert vars(record)["event_id"] == "e-1"
    assert vars(record)["result"] == "1 redriven to inventory.queue"


def test_a_message_is_shown_in_full_before_it_is_discarded(
    console: FlaskClient, channel: Channel, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given three parked messages
    installation()
    for event_id in ("e-1", "e-2", "e-3"):
        park(channel, event_id, colour=event_id)

    # When one is shown and discarded
    message = get(console, "/parked/inventory/message", id="e-2").text
    confirmation = get(console, "/parked/inventory/discard", id="e-2").text
    response = discard(console, "inventory", "e-2")

    # Then its page links to the confirmation, which names the event and shows it
    assert 'href="/parked/inventory/discard?id=e-2&amp;digest=' in message
    assert "Discard order.created of inventory?" in confirmation
    assert "The message of event <code>e-2</code>" in confirmation
    assert "&#34;colour&#34;: &#34;e-2&#34;" in confirmation
    # And only that message is discarded, and listed with the reason
    assert (response.status_code, response.location) == (303, "/parked")
    assert "inventory: 1 discarded, of event e-2, kept as" in get(console, "/parked").text
    groups = get(console, "/parked/groups").text
    assert "e-2</small>" in groups
    assert "a test</td>" in groups
    assert ids(channel, "inventory.queue") == []
    assert eventually(lambda: parked_ids(channel)) == ["e-1", "e-3"]


@pytest.mark.parametrize(
    ("action", "done"), [("discard", "1 discarded, of event e-1"), ("redrive", "1 redriven")]
)
def test_only_the_message_that_was_shown_is_changed(
    console: FlaskClient,
    channel: Channel,
    installation: Callable[[], DatabaseSettings],
    action: str,
    done: str,
) -> None:
    # Given a forged message with the id of a parked event
    installation()
    park(channel, "e-1", colour="forged")
    park(channel, "e-1", colour="real")
    listed = get(console, "/parked").text
    digests = list(dict.fromkeys(re.findall("digest=([0-9a-f]{64})", listed)))
    assert len(digests) == 2

    # When each is shown, and the second is changed
    shown = [
        get(console, "/parked/inventory/message", id="e-1", digest=digest).text
        for digest in digests
    ]
    confirm(
        console,
        f"/parked/inventory/{action}",
        fields={"reason": "a test"},
        id="e-1",
        digest=digests[1],
    )

    # Then each has its page, and the other stays parked
    assert ["forged" in html for html in shown] == [True, False]
    assert ["real" in html for html in shown] == [False, True]
    assert f"inventory: {done}" in get(console, "/parked").text
    left = eventually(lambda: parked_messages(channel))
    assert ["forged" in str(message.body) for message in left] == [True]


def parked_messages(channel: Channel) -> list[Message]:
    messages = drained(channel, "inventory.dlq")
    assert messages
    return messages


def test_a_discard_requires_the_digest_of_the_message(
    console: FlaskClient, channel: Channel
) -> None:
    park(channel, "e-1")
    get(console, "/parked")
    form = {"token": token(console), "id": "e-1", "reason": "a test"}
    response = console.post("/parked/inventory/discard", data=form, auth=("operator", PASSWORD))

    assert (response.status_code, "digest" in response.text) == (400, True)
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]


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


def test_a_redriven_message_cannot_be_discarded(console: FlaskClient, channel: Channel) -> None:
    # Given a confirmation page of a message that has then been redriven
    park(channel, "e-1")
    park(channel, "e-2")
    redrive(console, "inventory", id="e-1")
    get(console, "/parked")
    csrf = token(console)

    # When the discard is confirmed
    form = {"token": csrf, "id": "e-1", "digest": "0" * 64, "reason": "a test"}
    console.post("/parked/inventory/discard", data=form, auth=("operator", PASSWORD))

    # Then it is rejected, and the redriven message is kept
    assert "inventory: not parked by inventory: e-1" in get(console, "/parked").text
    assert get(console, "/parked/inventory/discard", id="e-1").status_code == 503
    assert ids(channel, "inventory.queue") == ["e-1"]
    assert eventually(lambda: parked_ids(channel)) == ["e-2"]


def test_a_discard_is_logged(
    console: FlaskClient,
    channel: Channel,
    installation: Callable[[], DatabaseSettings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    installation()
    park(channel, "e-1")

    with caplog.at_level("INFO"):
        discard(console, "inventory", "e-1")

    (record,) = [r for r in caplog.records if r.message == "discard requested"]
    assert vars(record)["service"] == "inventory"
    assert vars(record)["event_id"] == "e-1"
    assert vars(record)["result"].startswith("1 discarded, of event e-1, kept as ")


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
