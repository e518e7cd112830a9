"""Parked messages are found by their names, wherever they are in a parking lot."""

import pytest

from common.kombu_topology import INVENTORY
from console.actions.parked import show
from console.broker import parking_lot
from console.settings import BrokerAdminSettings
from testkit.data.parked import parked
from testkit.eventually import becomes, eventually
from testkit.processes.orderctl import orderctl
from testkit.servers.vhosts import Vhost
from testkit.wire.frames import long_string, properties, short_string, table
from testkit.wire.publisher import wire_publisher

DISCARD = ("parked", "discard", "inventory", "--yes", "--reason", "a test")


Environment = dict[str, str]


def park_named(vhost: Vhost, names: list[str], **more: bytes) -> None:
    with wire_publisher(vhost) as publisher:
        for name in names:
            headers = table({b"id": long_string(name.encode())} | _headers(more))
            publisher.publish("", "inventory.dlq", properties(headers=headers), b"{}")
        publisher.settle()


def _headers(more: dict[str, bytes]) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in more.items()}


def ids(env: Environment) -> list[str]:
    return [row["id"] for row in parked(env, "--limit", "100000")]


def _in_order(env: Environment, names: list[str]) -> None:
    assert ids(env) == names


def test_a_message_that_cannot_be_copied_is_named_and_stays_parked(
    vhost: Vhost, env: Environment
) -> None:
    park_named(vhost, ["too large"], padding=long_string(b"x" * 70_000))
    park_named(vhost, ["small"])

    result = orderctl(env, "parked", "redrive", "inventory", "--all")

    report = "1 redriven; 1 left parked, with properties that cannot be copied: too large"
    assert report in result.stderr
    becomes(lambda: vhost.depth("inventory.queue"), 1)
    eventually(lambda: _in_order(env, ["too large"]))


def test_a_message_far_down_is_found_and_the_others_keep_order(
    vhost: Vhost, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more messages than three consumers hold
    monkeypatch.setattr(parking_lot, "HOLD_LIMIT", 40)
    names = [f"e-{number}" for number in range(150)]
    park_named(vhost, names)

    # When one is redriven, one is discarded, and one that is missing is discarded
    redriven = orderctl(env, "parked", "redrive", "inventory", "--id", "e-140")
    discarded = orderctl(env, *DISCARD, "--id", "e-90")
    missing = orderctl(env, *DISCARD, "--id", "e-900")

    # Then both are gone, and the others keep their order
    assert redriven.exit_code == discarded.exit_code == 0, redriven.output + discarded.output
    assert missing.exit_code == 1
    rest = [name for name in names if name not in ("e-140", "e-90")]
    eventually(lambda: _in_order(env, rest))


def test_every_copy_of_an_event_is_redriven(
    vhost: Vhost, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more messages than one consumer holds, each followed by a get that is put back: the get
    # returns a message that the consumer does not hold
    monkeypatch.setattr(parking_lot, "HOLD_LIMIT", 20)
    monkeypatch.setattr(parking_lot, "_SETTLED_TOGETHER", 1)
    park_named(vhost, ["e-1", "e-2"] * 50)

    result = orderctl(env, "parked", "redrive", "inventory", "--id", "e-2")

    assert result.exit_code == 0, result.output
    becomes(lambda: vhost.depth("inventory.queue"), 50)
    eventually(lambda: _in_order(env, ["e-1"] * 50))


@pytest.mark.usefixtures("applied")
def test_a_listing_shows_at_most_its_limit(vhost: Vhost) -> None:
    park_named(vhost, [f"e-{number}" for number in range(50)])

    listing = show(BrokerAdminSettings(**vhost.administrator), INVENTORY, limit=5)

    assert [message.id for message in listing.messages] == [f"e-{number}" for number in range(5)]
    assert listing.depth == 50


def test_a_message_without_an_id_is_named_by_its_body(vhost: Vhost, env: Environment) -> None:
    with wire_publisher(vhost) as publisher:
        for body in (b"", b"one", b"two", b"one"):
            publisher.publish("", "inventory.dlq", properties(app_id=short_string(b"x")), body)
        publisher.settle()
    names = ids(env)

    result = orderctl(env, *DISCARD, "--id", names[1])

    assert all(name.startswith("unnamed-") for name in names)
    assert (len(set(names)), names[1]) == (3, names[3])
    assert result.exit_code == 0, result.output
    eventually(lambda: _in_order(env, [names[0], names[2]]))
