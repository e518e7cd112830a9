"""Parked messages that are redriven in the web console."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from console.settings import DatabaseSettings
from testkit.data.parked import parked_messages
from testkit.eventually import eventually
from testkit.processes.web_console import (
    confirm,
    get,
    ids,
    park,
    parked_ids,
    redrive,
)


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


def test_a_message_too_old_to_redrive_is_reported(console: FlaskClient, channel: Channel) -> None:
    # Given a parked message older than the limit
    old = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    park(channel, "e-1", time=old)

    # When it is redriven
    redrive(console, "inventory", id="e-1")

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
