"""`orderctl parked groups` on a real broker."""

import json
from typing import Any

import pytest
from amqp import Channel

from testkit.data.hostile_parked import park_hostile
from testkit.data.parked import park, parked
from testkit.eventually import becomes, eventually
from testkit.processes.orderctl import orderctl
from testkit.servers.vhosts import Vhost
from testkit.wire.frames import long_string, properties, table
from testkit.wire.publisher import wire_publisher

FRAME = "inventory_worker/reservations.py:lock_stock"

#: More messages than any earlier limit of a tool.
MANY = 10_500


def groups(env: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    result = orderctl(env, "parked", "groups", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def test_parked_messages_are_grouped_and_stay_in_order(
    channel: Channel, applied: dict[str, str]
) -> None:
    # Given two causes
    for number in range(5):
        park(channel, f"e-{number}", frame=FRAME)
    park(channel, "e-5", exception="KeyError")

    # When they are grouped
    first, second = groups(applied)
    table_of = orderctl(applied, "parked", "groups", "--service", "inventory")

    # Then each has its count, and the messages stay
    assert (first["service"], first["count"], first["failure"]) == ("inventory", 5, "ValueError")
    assert (first["frame"], first["releases"]) == (
        FRAME,
        ["r1"],
    )
    assert first["first_seen"] <= first["last_seen"]
    assert (second["count"], second["failure"], second["frame"]) == (1, "KeyError", None)
    assert FRAME in table_of.stdout
    eventually(lambda: _in_order(applied, [f"e-{number}" for number in range(6)]))


def _in_order(env: dict[str, str], ids: list[str]) -> None:
    assert [message["id"] for message in parked(env)] == ids


def test_an_empty_parking_lot_has_no_groups(applied: dict[str, str]) -> None:
    assert groups(applied, "--service", "inventory") == []
    assert orderctl(applied, "parked", "groups").stdout == "no messages are parked\n"


def test_hostile_messages_are_grouped(vhost: Vhost, applied: dict[str, str]) -> None:
    # Given hostile messages of every kind
    count = park_hostile(vhost, seed=3)

    # When they are grouped
    found = groups(applied)
    table_of = orderctl(applied, "parked", "groups")

    # Then each is in a group, and no text controls the terminal
    assert sum(group["count"] for group in found) == count
    assert table_of.exit_code == 0, table_of.output
    assert "\x1b" not in table_of.stdout


@pytest.mark.timeout(600)
def test_every_message_of_a_large_parking_lot_is_found(
    vhost: Vhost, applied: dict[str, str]
) -> None:
    # Given many parked messages, the last of which has another cause
    with wire_publisher(vhost) as publisher:
        for number in range(MANY):
            headers = table({b"id": long_string(b"e-%d" % number), b"task": long_string(b"a.type")})
            publisher.publish("", "inventory.dlq", properties(headers=headers), b"{}")
        publisher.settle()

    # When they are grouped, and the last one is redriven
    (group,) = groups(applied)
    last = f"e-{MANY - 1}"
    redriven = orderctl(applied, "parked", "redrive", "inventory", "--id", last)

    # Then all are found
    assert (group["count"], group["type"], group["example"]) == (MANY, "a.type", last)
    assert redriven.exit_code == 0, redriven.output
    becomes(lambda: vhost.depth("inventory.queue"), 1)
    eventually(lambda: _full(vhost, MANY - 1))


def _full(vhost: Vhost, count: int) -> None:
    assert vhost.depth("inventory.dlq") == count
