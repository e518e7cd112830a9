"""`orderctl parked note`, `assign` and `mute` on a real broker and database."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from amqp import Channel
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import IntegrityError

from common.kombu_topology import CONSOLE, INVENTORY
from console.commands.operator import operator_name
from console.databases.service_database import transaction
from console.models import FailureGroupRow, JournalRow
from console.parking import triage
from console.parking.groups import key_of
from console.parking.journal import Change
from testkit.data.parked import drained, park
from testkit.eventually import becomes
from testkit.processes.orderctl import orderctl
from testkit.servers.vhosts import Vhost
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]

KEY = key_of("order.created", "ValueError", None)


@pytest.fixture
def group(channel: Channel, env: Environment) -> dict[str, Any]:
    """A group of two messages that was listed."""
    for event_id in ("e-1", "e-2"):
        park(channel, event_id, failed_at=datetime.now(UTC) - timedelta(days=2))
    (group,) = grouped(env)
    return group


def grouped(env: Environment) -> list[dict[str, Any]]:
    result = orderctl(env, "parked", "groups", "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def run(env: Environment, command: str, *arguments: str, status: int = 0) -> str:
    result = orderctl(env, "parked", command, "inventory", *arguments)
    assert result.exit_code == status, result.output
    return result.output


def test_notes_and_owner_stay_when_a_group_returns(
    channel: Channel, env: Environment, group: dict[str, Any]
) -> None:
    # Given a group with notes and an owner, whose messages were redriven
    assert group["key"] == KEY
    assert run(env, "note", KEY, "a first guess").endswith(": noted\n")
    run(env, "note", KEY, "fixed in release r2")
    assert run(env, "assign", KEY, "anna").endswith(": assigned to anna\n")
    assert orderctl(env, "parked", "redrive", "inventory", "--all").exit_code == 0
    drained(channel, "inventory.queue")

    # When the group returns
    park(channel, "e-3", release="r2")
    (returned,) = grouped(env)

    # Then it has the newest note and the owner
    known = returned["remembered"]
    assert (known["note"], known["noted_by"]) == ("fixed in release r2", operator_name())
    assert (known["owner"], known["story"] is not None) == ("anna", True)
    assert "fixed in release r2" in orderctl(env, "parked", "groups").stdout


def test_the_journal_of_a_group_keeps_every_change(
    env: Environment, settings: OperatorSettings, group: dict[str, Any]
) -> None:
    # Given a group that was noted, assigned, muted, and the reverse
    run(env, "note", KEY, "a first guess")
    run(env, "note", KEY, "a second guess")
    run(env, "assign", KEY, "anna")
    run(env, "assign", KEY, "--clear")
    run(env, "mute", KEY, "--for", "3d", "--reason", "known")
    run(env, "mute", KEY, "--off")

    # When its journal is read
    entries = triage.show(settings, INVENTORY, KEY).entries

    # Then it has all changes, with the person and the time
    assert [entry.change for entry in entries] == [
        *(Change.NOTED, Change.NOTED, Change.ASSIGNED, Change.ASSIGNED),
        *(Change.MUTED, Change.UNMUTED),
    ]
    assert [entry.text for entry in entries[:4]] == [
        "a first guess",
        "a second guess",
        "anna",
        None,
    ]
    assert (entries[4].text or "").endswith(": known")
    assert {entry.recorded_by for entry in entries} == {operator_name()}
    assert all(entry.recorded_at for entry in entries)


def test_a_muted_group_is_listed_last_until_the_mute_ends(
    vhost: Vhost,
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    group: dict[str, Any],
) -> None:
    # Given a muted group, and a smaller one
    park(channel, "e-3", exception="KeyError")
    before = [group["key"] for group in grouped(env)]
    assert "muted until" in run(env, "mute", KEY)

    # Then it is listed last, with the same counts
    muted = grouped(env)
    assert [group["key"] for group in muted] == before[::-1]
    assert (muted[1]["count"], muted[1]["remembered"]["is_muted"]) == (2, True)
    end = datetime.fromisoformat(muted[1]["remembered"]["muted_until"])
    assert timedelta(days=6) < end - datetime.now(UTC) <= timedelta(days=7)
    becomes(lambda: vhost.depth("inventory.dlq"), 3)

    # When the mute has ended
    with transaction(settings, CONSOLE) as session:
        session.execute(update(FailureGroupRow).values(muted_until=func.now()))

    # Then it is listed as before
    assert [group["key"] for group in grouped(env)] == before


def test_an_unknown_group_is_named(env: Environment) -> None:
    message = "group 0123 of inventory is not known; see: orderctl parked groups"
    for arguments in (("note", "0123", "x"), ("assign", "0123", "anna"), ("mute", "0123")):
        assert message in run(env, *arguments, status=1)


def test_values_beyond_their_limits_are_rejected(env: Environment, group: dict[str, Any]) -> None:
    assert "note: must have 1 to 2000 characters" in run(env, "note", KEY, "x" * 2_001, status=1)
    assert "note: must have 1 to 2000 characters" in run(env, "note", KEY, "  ", status=1)
    assert "owner: must have 1 to 100 characters" in run(env, "assign", KEY, "x" * 101, status=1)
    assert "at most 90 days" in run(env, "mute", KEY, "--for", "91d", status=1)
    assert "an owner or --clear" in run(env, "assign", KEY, status=64)
    assert "either --off or" in run(env, "mute", KEY, "--off", "--for", "1d", status=64)
    assert grouped(env)[0]["remembered"]["note"] is None


def test_an_entry_of_the_journal_cannot_be_changed(
    env: Environment, settings: OperatorSettings, group: dict[str, Any]
) -> None:
    run(env, "note", KEY, "as it was")

    with (
        pytest.raises(IntegrityError, match="parking_journal is append-only"),
        transaction(settings, CONSOLE) as session,
    ):
        session.execute(update(JournalRow).values(text="something else"))

    with transaction(settings, CONSOLE) as session:
        assert session.scalars(select(JournalRow.text)).all() == ["as it was"]


def test_old_entries_of_the_journal_are_deleted(
    env: Environment, settings: OperatorSettings, group: dict[str, Any]
) -> None:
    # Given an entry that is older than 90 days
    with transaction(settings, CONSOLE) as session:
        session.execute(
            text(
                "INSERT INTO parking_journal (service, group_key, change, recorded_by, recorded_at)"
                " VALUES ('inventory', :key, 'unmuted', 'anna', now() - interval '91 days')"
            ),
            {"key": KEY},
        )

    # When another one is recorded
    run(env, "note", KEY, "new")

    # Then only the new one is left
    entries = triage.show(settings, INVENTORY, KEY).entries
    assert [entry.text for entry in entries] == ["new"]
