"""Failure groups are remembered when their messages are gone, and recognized when they return."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from amqp import Channel

from common.kombu_topology import CONSOLE, INVENTORY
from console.databases.service_database import transaction
from console.parking import memory
from console.parking.groups import Group, groups, key_of
from testkit.data.parked import drained, park, parked
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]

FRAME = "inventory_worker/reservations.py:lock_stock"
KEY = key_of("order.created", "ValueError", FRAME)


def ago(**duration: float) -> datetime:
    return (datetime.now(UTC) - timedelta(**duration)).replace(microsecond=0)


def grouped(env: Environment, *arguments: str) -> list[dict[str, Any]]:
    result = orderctl(env, "parked", "groups", "--json", *arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return list(json.loads(result.stdout))


def redrive_all(channel: Channel, env: Environment) -> None:
    assert orderctl(env, "parked", "redrive", "inventory", "--all").exit_code == 0
    drained(channel, "inventory.queue")


def test_a_group_that_returns_is_recognized(channel: Channel, env: Environment) -> None:
    # Given a group that was listed, three days before its messages were redriven
    for number in range(2):
        park(channel, f"e-{number}", frame=FRAME, release="r1", failed_at=ago(days=3, hours=1))
    (new,) = grouped(env)
    assert (new["key"], new["remembered"]["story"]) == (KEY, None)
    redrive_all(channel, env)
    (gone,) = grouped(env, "--earlier")
    assert (gone["key"], gone["count"], grouped(env)) == (KEY, 2, [])

    # When a message fails in the same way
    park(channel, "e-2", frame=FRAME, release="r2")
    (returned,) = grouped(env)

    # Then the group has its earlier failures
    known = returned["remembered"]
    assert known["story"] == "returned after 3 days; last seen in release r1"
    assert (returned["count"], known["count"], known["releases"]) == (1, 3, ["r1", "r2"])
    assert known["first_seen"] == gone["first_seen"]
    assert grouped(env, "--earlier") == []
    # And the table shows it
    table_of = orderctl(env, "parked", "groups").stdout
    assert "returned after 3 days; last seen in release r1" in table_of


def test_a_failure_is_counted_once(channel: Channel, env: Environment) -> None:
    # Given a group that was listed several times
    park(channel, "e-1", frame=FRAME, failed_at=ago(hours=2))
    first = [grouped(env)[0]["remembered"] for _ in range(3)]

    # When another message fails, and the group is listed again
    park(channel, "e-2", frame=FRAME, failed_at=ago(hours=1))
    later = [grouped(env)[0]["remembered"] for _ in range(3)]

    # Then each failure was counted once
    assert [known["count"] for known in first + later] == [1, 1, 1, 2, 2, 2]
    # And the group has not returned: its first message was parked all the time
    assert {known["story"] for known in later} == {None}


def test_two_commands_that_list_a_group_count_its_failures_once(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given two commands that have read the same new failure, of a new and of a known group
    failed_at = ago(hours=2)
    park(channel, "e-1", frame=FRAME, failed_at=failed_at)
    grouped(env)
    since = {KEY: failed_at}
    park(channel, "e-2", frame=FRAME)
    park(channel, "e-3", exception="KeyError")
    readings = [eventually(lambda: _all_read(settings, since)) for _ in range(2)]

    # When both remember it
    for found in readings:
        with transaction(settings, CONSOLE) as session:
            memories = memory.remember(session, INVENTORY, found)

    # Then it was counted once
    assert {key: known.count for key, known in memories.items()} == {
        KEY: 2,
        key_of("order.created", "KeyError", None): 1,
    }


def _all_read(settings: OperatorSettings, since: dict[str, datetime]) -> list[Group]:
    found = groups(settings, INVENTORY, since).groups
    assert sum(group.count for group in found) == 3
    return found


def test_a_redrive_that_fails_again_is_not_a_return(channel: Channel, env: Environment) -> None:
    # Given a listed group whose message was redriven
    park(channel, "e-1", frame=FRAME, failed_at=ago(minutes=13))
    grouped(env)
    redrive_all(channel, env)

    # When it fails again after all retry tiers
    park(channel, "e-1", frame=FRAME)
    (group,) = grouped(env)

    # Then it has not returned
    assert (group["remembered"]["count"], group["remembered"]["story"]) == (2, None)


def test_groups_are_listed_without_the_database(channel: Channel, applied: dict[str, str]) -> None:
    # Given no database of the console, which is created with `migrated_env`
    park(channel, "e-1", frame=FRAME)

    # When the groups are listed
    result = orderctl(applied, "parked", "groups", "--json")

    # Then the group is shown without its memory, and the reason is reported once
    assert result.exit_code == 0, result.output
    (group,) = json.loads(result.stdout)
    assert (group["key"], group["count"], group["remembered"]) == (KEY, 1, None)
    assert result.stderr.startswith("groups are not remembered: PostgreSQL: ")
    assert result.stderr.count("\n") == 1


def test_a_failure_in_the_future_does_not_hide_later_ones(
    channel: Channel, env: Environment
) -> None:
    # Given a message with a failure in the future, as only an unknown publisher sends it
    park(channel, "e-1", frame=FRAME, failed_at=ago(days=-365_000))
    grouped(env)
    redrive_all(channel, env)

    # When another message fails
    park(channel, "e-2", frame=FRAME)
    (group,) = grouped(env)

    # Then it is counted
    assert group["remembered"]["count"] == 2


def test_the_number_of_remembered_groups_is_limited(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given four groups, the oldest of them with a note, and room for three
    for number in range(4):
        park(channel, f"e-{number}", exception=f"Error{number}", failed_at=ago(days=9 - number))
    noted = key_of("order.created", "Error0", None)
    grouped(env)
    assert orderctl(env, "parked", "note", "inventory", noted, "kept").exit_code == 0
    redrive_all(channel, env)
    monkeypatch.setattr(memory, "REMEMBERED", 3)

    # When another group is listed
    park(channel, "e-4", exception="Error4")
    grouped(env)

    # Then the oldest groups without a note are forgotten
    left = {group["failure"] for group in grouped(env, "--earlier")}
    assert left == {"Error0", "Error3"}


def test_messages_stay_in_order_when_their_groups_are_remembered(
    channel: Channel, env: Environment
) -> None:
    for number in range(5):
        park(channel, f"e-{number}", frame=FRAME)

    grouped(env)

    eventually(lambda: _in_order(env))


def _in_order(env: Environment) -> None:
    assert [row["id"] for row in parked(env)] == [f"e-{number}" for number in range(5)]
