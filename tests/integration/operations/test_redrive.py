"""`orderctl parked redrive` on a real broker."""

from datetime import UTC, datetime, timedelta

import pytest
from amqp import Channel

from eventbus.settings.base import SettingsError
from testkit.data.parked import drained, held, park, parked
from testkit.processes.orderctl import orderctl
from testkit.servers.management import Management
from testkit.servers.vhosts import Vhost


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


def test_a_redriven_message_carries_no_failure(
    vhost: Vhost, channel: Channel, applied: dict[str, str]
) -> None:
    park(channel, "e-1", user_id=vhost.admin_user, type="order.created")

    result = orderctl(applied, "parked", "redrive", "inventory", "--all")

    assert (result.exit_code, result.stdout) == (0, "inventory: 1 redriven to inventory.queue\n")
    assert parked(applied) == []
    (message,) = drained(channel, "inventory.queue")
    headers = {k: v for k, v in message.headers.items() if k != "x-delivery-count"}
    assert headers == {"task": "order.created", "id": "e-1", "retries": 0}
    assert (message.properties["message_id"], message.properties["type"]) == (
        "e-1",
        "order.created",
    )
    assert "user_id" not in message.properties


def test_one_message_is_redriven_and_the_others_keep_their_order(
    channel: Channel, applied: dict[str, str]
) -> None:
    for event_id in ("e-1", "e-2", "e-3"):
        park(channel, event_id)

    result = orderctl(applied, "parked", "redrive", "inventory", "--id", "e-2", "--id", "e-9")

    assert result.exit_code == 1
    assert "e-9" in result.stderr
    assert [message["id"] for message in parked(applied)] == ["e-1", "e-3"]
    assert [m.headers["id"] for m in drained(channel, "inventory.queue")] == ["e-2"]


def test_an_event_that_is_too_old_stays_parked(channel: Channel, applied: dict[str, str]) -> None:
    # Given events on both sides of the limit
    park(channel, "e-old", time=days_ago(14.1))
    park(channel, "e-young", time=days_ago(13.9))

    # When all are redriven
    result = orderctl(applied, "parked", "redrive", "inventory", "--all")

    # Then the old one stays and is named
    assert result.exit_code == 1
    # Without the console's database, the command works, and reports that it was not recorded.
    audited, _error = result.stderr.splitlines()
    assert audited.startswith("not in the audit log: ")
    assert "1 redriven" in result.stderr
    assert "1 left parked, older than PARKED_REDRIVE_DAYS (14): e-old" in result.stderr
    assert [message["id"] for message in parked(applied)] == ["e-old"]
    assert [m.headers["id"] for m in drained(channel, "inventory.queue")] == ["e-young"]


def test_a_named_event_that_is_too_old_stays_parked(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given an event that is too old
    park(channel, "e-old", time=days_ago(15))
    redrive = ("parked", "redrive", "inventory", "--id", "e-old")

    # When it is redriven by its id
    refused = orderctl(applied, *redrive)

    # Then it stays parked
    assert refused.exit_code == 1
    assert "PARKED_REDRIVE_DAYS" in refused.stderr
    assert drained(channel, "inventory.queue") == []

    # When the limit is raised within the dedup window
    redriven = orderctl(applied | {"PARKED_REDRIVE_DAYS": "16"}, *redrive)

    # Then the event is redriven
    assert redriven.exit_code == 0, redriven.output
    assert [m.headers["id"] for m in drained(channel, "inventory.queue")] == ["e-old"]


def test_an_age_limit_beyond_the_dedup_window_is_rejected(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given a parked event
    park(channel, "e-1", time=days_ago(1))

    # When the limit exceeds the dedup window
    too_far = applied | {"PARKED_REDRIVE_DAYS": "30"}
    result = orderctl(too_far, "parked", "redrive", "inventory", "--all")

    # Then the error names both settings, and the event stays
    assert isinstance(result.exception, SettingsError)
    assert "INBOX_RETENTION_DAYS" in str(result.exception)
    assert "PARKED_REDRIVE_DAYS" in str(result.exception)
    assert [message["id"] for message in parked(applied)] == ["e-1"]


def test_a_message_whose_queue_is_missing_stays_parked(
    management: Management, channel: Channel, applied: dict[str, str]
) -> None:
    park(channel, "e-1")
    management.send("DELETE", "queues", "inventory.queue")

    result = orderctl(applied, "parked", "redrive", "inventory", "--all")

    assert result.exit_code == 1
    # Without the console's database, the command works, and reports that it was not recorded.
    audited, _error = result.stderr.splitlines()
    assert audited.startswith("not in the audit log: ")
    assert [message["id"] for message in parked(applied)] == ["e-1"]


def test_redrive_requires_either_all_or_ids(applied: dict[str, str]) -> None:
    assert orderctl(applied, "parked", "redrive", "inventory").exit_code == 64
    assert orderctl(applied, "parked", "redrive", "inventory", "--all", "--id", "x").exit_code == 64


@pytest.mark.parametrize("which", [("--all",), ("--id", "e-1")])
def test_messages_that_another_reader_holds_are_not_reported_as_redriven(
    channel: Channel, applied: dict[str, str], which: tuple[str, ...]
) -> None:
    # Given a parked message, held by another reader
    park(channel, "e-1")
    redrive = ("parked", "redrive", "inventory", *which)
    with held(channel, 1):
        # When it is redriven
        refused = orderctl(applied, *redrive)

    # Then the reader is reported
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "another reader" in refused.stderr
    assert drained(channel, "inventory.queue") == []

    # When it is released, then it is redriven
    assert orderctl(applied, *redrive).exit_code == 0
    assert [m.headers["id"] for m in drained(channel, "inventory.queue")] == ["e-1"]


def test_one_of_several_bodies_of_an_event_is_redriven(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given a forged message with the id of a parked event
    park(channel, "e-1", event={"subject": "forged"})
    park(channel, "e-1", event={"subject": "real"})
    digests = {message["order_id"]: message["digest"] for message in parked(applied)}

    # When the event is redriven, without and with the digest of a body
    redrive = ("parked", "redrive", "inventory", "--id", "e-1")
    refused = orderctl(applied, *redrive)
    redriven = orderctl(applied, *redrive, "--digest", digests["real"])

    # Then the first is refused with both digests, and the second moves one message
    assert refused.exit_code == 1
    assert "e-1 is parked with different bodies" in refused.stderr
    assert all(digest in refused.stderr for digest in digests.values())
    assert redriven.exit_code == 0, redriven.output
    assert [message["order_id"] for message in parked(applied)] == ["forged"]
    assert len(drained(channel, "inventory.queue")) == 1


def test_a_digest_belongs_to_one_event(applied: dict[str, str]) -> None:
    redrive = ("parked", "redrive", "inventory", "--digest")

    assert orderctl(applied, *redrive, "0" * 64, "--all").exit_code == 64
    assert orderctl(applied, *redrive, "0" * 64, "--id", "x", "--id", "y").exit_code == 64
    invalid = orderctl(applied, *redrive, "0", "--id", "x")
    assert (invalid.exit_code, "'0' is not a SHA-256" in invalid.stderr) == (64, True)
