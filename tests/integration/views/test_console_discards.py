"""Parked messages that are discarded in the web console."""

from collections.abc import Callable

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from console.settings import DatabaseSettings
from testkit.eventually import eventually
from testkit.processes.web_console import (
    PASSWORD,
    discard,
    get,
    ids,
    park,
    parked_ids,
    redrive,
    token,
)


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


def test_a_discard_requires_the_digest_of_the_message(
    console: FlaskClient, channel: Channel
) -> None:
    park(channel, "e-1")
    get(console, "/parked")
    form = {"token": token(console), "id": "e-1", "reason": "a test"}
    response = console.post("/parked/inventory/discard", data=form, auth=("operator", PASSWORD))

    assert (response.status_code, "digest" in response.text) == (400, True)
    assert eventually(lambda: parked_ids(channel)) == ["e-1"]


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
