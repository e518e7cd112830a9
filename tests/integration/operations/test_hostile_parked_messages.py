"""The tools for parked and past messages work with every message, on a real broker."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from common.kombu_topology import INVENTORY, STREAM
from console.broker.connection import connected
from console.broker.queue_inspection import inspect_queue, inspect_stream
from console.orderctl import main
from console.settings import BrokerAdminSettings
from testkit.data.hostile_parked import CREATED, park_hostile
from testkit.eventually import becomes, eventually
from testkit.processes.web_console import get
from testkit.servers.vhosts import Vhost
from testkit.wire.corpus import messages
from testkit.wire.draft import KINDS
from testkit.wire.publisher import wire_publisher

DISCARD = ("parked", "discard", "inventory", "--yes", "--reason", "a test")


@pytest.fixture
def env(migrated_env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of `orderctl`."""
    for name, value in migrated_env.items():
        monkeypatch.setenv(name, value)
    return migrated_env


@pytest.fixture
def poisoned(broker: Vhost, env: dict[str, str]) -> int:
    """The number of hostile messages in the inventory's parking lot, about two of each kind."""
    assert env["BROKER_VHOST"] == broker.name
    return park_hostile(broker, seed=1)


def orderctl(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def listed(*arguments: str) -> list[dict[str, Any]]:
    result = orderctl("parked", "list", "inventory", "--json", "--limit", "100000", *arguments)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def test_every_parked_message_is_listed_by_name(poisoned: int) -> None:
    rows = listed()
    table_of = orderctl("parked", "list", "inventory", "--limit", "100000")

    assert len(rows) == poisoned
    assert all(row["id"] for row in rows)
    assert table_of.exit_code == 0, table_of.output
    assert "\x1b" not in table_of.stdout


def test_every_parked_message_has_a_page(poisoned: int, console: FlaskClient) -> None:
    listing = get(console, "/parked")

    assert listing.status_code == 200
    for row in listed()[:poisoned:3]:
        for kind in ("message", "redrive", "discard", "history"):
            answer = get(console, f"/parked/inventory/{kind}", id=row["id"])
            assert answer.status_code == 200, (row["id"], answer.text)


def test_every_parked_message_can_be_edited_or_the_reason_is_named(poisoned: int) -> None:
    for row in listed()[:poisoned:5]:
        arguments = (
            "parked",
            "edit",
            "inventory",
            "--set",
            "data=1",
            "--reason",
            "a test",
            "--yes",
        )

        result = orderctl(*arguments, "--", row["id"])

        assert result.exit_code == 1, (row["id"], result.output)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.stderr.count("\n") == 1


def test_every_parked_message_has_a_history(poisoned: int) -> None:
    for row in listed()[:poisoned:5]:
        result = orderctl("parked", "history", "inventory", "--", row["id"])

        assert result.exit_code == 0, (row["id"], result.output)
        assert "\x1b" not in result.stdout


def test_the_groups_of_hostile_messages_are_remembered(poisoned: int) -> None:
    first = orderctl("parked", "groups", "--json")
    second = orderctl("parked", "groups", "--json")

    for result in (first, second):
        assert (result.exit_code, result.stderr) == (0, ""), result.output
    groups = json.loads(second.stdout)
    assert sum(group["count"] for group in groups) == poisoned
    assert all(group["remembered"] for group in groups)


def test_every_parked_message_is_discarded_by_its_name(broker: Vhost, env: dict[str, str]) -> None:
    # Given a message of each kind; each command reads all of them
    assert env["BROKER_VHOST"] == broker.name
    parked = park_hostile(broker, seed=1, rounds=1)
    rows = listed()
    ids = {row["id"] for row in rows}
    discarded: list[dict[str, Any]] = []

    # When each is discarded; a name may be that of several messages with different bodies
    for name, digest in {(row["id"], row["digest"]): None for row in rows}:
        result = orderctl(*DISCARD, "--json", f"--id={name}", f"--digest={digest}")
        assert result.exit_code == 0, result.output
        discarded += json.loads(result.stdout)

    # Then the parking lot is empty
    assert len(discarded) == parked
    becomes(lambda: broker.depth("inventory.dlq"), 0)

    # When all are restored, except those that cannot be sent
    numbers = [str(message["discarded_id"]) for message in discarded]
    restored = [orderctl("parked", "restore", number) for number in numbers]

    # Then they are parked under the same names, and the others are still stored
    back = sum(one.exit_code == 0 for one in restored)
    assert all("cannot be restored" in one.stderr for one in restored if one.exit_code)
    assert back > parked * 3 / 4
    eventually(lambda: _has_names(ids, back))


def _has_names(ids: set[str], count: int) -> None:
    rows = listed()
    assert len(rows) == count
    assert {row["id"] for row in rows} <= ids


def test_redrive_moves_copyable_messages_and_names_the_rest(poisoned: int, vhost: Vhost) -> None:
    result = orderctl("parked", "redrive", "inventory", "--all")

    left = vhost.depth("inventory.dlq")
    becomes(lambda: vhost.depth("inventory.queue"), poisoned - left)
    assert left < poisoned / 4
    assert result.exit_code == (1 if left else 0), result.output
    assert not left or "left parked" in result.stderr
    assert not result.exception or isinstance(result.exception, SystemExit)


def test_queue_and_stream_are_inspected_past_every_message(
    poisoned: int, vhost: Vhost, env: dict[str, str]
) -> None:
    del env
    with wire_publisher(vhost) as publisher:
        # RabbitMQ 3.10 cannot store every type of header in a stream.
        for message in messages(2, len(KINDS), CREATED, good=10**9):
            if "type" not in message.kind and "forged" not in message.kind:
                publisher.publish("", STREAM, message.properties, message.body)
        publisher.settle()

    with connected(BrokerAdminSettings(**vhost.administrator), confirm_publish=True) as connection:
        queue = inspect_queue(connection, INVENTORY.parking_lot, limited=False)
        stream = inspect_stream(connection, STREAM, now=datetime.now(UTC))

    assert queue.types.total() == poisoned
    assert queue.unseen == 0
    assert stream.types.total() > 1
    assert stream.unseen == 0
