"""`orderctl parked discard`, `discarded` and `restore` on a real broker and database."""

import json
from datetime import timedelta
from typing import Any

import pytest
from amqp import Channel
from sqlalchemy import Engine, event, func, select, update

from common.kombu_topology import CONSOLE
from console.broker.parking_lot import ParkingLot
from console.databases.service_database import transaction
from console.models import DiscardRow
from console.parking import choice, discards
from testkit.data.parked import drained, park, parked
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]

DISCARD = ("parked", "discard", "inventory", "--reason", "a test order")


def discarded(env: Environment) -> list[dict[str, Any]]:
    result = orderctl(env, "parked", "discarded", "--json")
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))


def ids(env: Environment) -> list[str]:
    return [message["id"] for message in parked(env)]


def test_a_discarded_message_is_shown_and_kept_with_the_reason(
    channel: Channel, env: Environment
) -> None:
    # Given messages of three events, one of them parked twice
    for event_id in ("e-1", "e-2", "e-3", "e-2"):
        park(channel, event_id)

    # When the event is discarded
    result = orderctl(env, *DISCARD, "--id", "e-2", "--yes", "--json")

    # Then both messages are shown, and the others keep their order
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    numbers = [message["discarded_id"] for message in shown]
    kept = f"kept for 30 days as {numbers[0]} {numbers[1]}"
    assert result.stderr == f"inventory: 2 discarded, {kept}\n"
    assert [(m["id"], m["exception"]) for m in shown] == [("e-2", "ValueError")] * 2
    assert json.loads(shown[0]["body"]) == [[], {"event": {"subject": "an-order"}}, {}]
    assert ids(env) == ["e-1", "e-3"]
    assert drained(channel, "inventory.queue") == []
    # And they are listed without their content
    listed = discarded(env)
    assert [entry["id"] for entry in listed] == numbers[::-1]
    assert {(entry["event_id"], entry["reason"]) for entry in listed} == {("e-2", "a test order")}
    assert "an-order" not in orderctl(env, "parked", "discarded").stdout


def test_a_restored_message_is_parked_as_before(channel: Channel, env: Environment) -> None:
    # Given a discarded message
    park(channel, "e-1", type="order.created", frame="inventory_worker/reservations.py:lock_stock")
    (before,) = parked(env)
    orderctl(env, *DISCARD, "--id", "e-1", "--yes")
    (entry,) = discarded(env)

    # When it is restored
    result = orderctl(env, "parked", "restore", str(entry["id"]))
    again = orderctl(env, "parked", "restore", str(entry["id"]))

    # Then it is parked with the same failure, once
    assert (result.exit_code, result.stdout) == (0, "inventory: e-1 parked again\n")
    assert (again.exit_code, "does not exist" in again.stderr) == (1, True)
    assert parked(env) == [before]
    assert discarded(env) == []


def test_a_message_whose_discard_fails_is_not_lost(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a connection that ends before the message is removed
    def fail(*_: object) -> None:
        raise ConnectionError("lost")

    park(channel, "e-1")
    with monkeypatch.context() as patch:
        patch.setattr(ParkingLot, "discard", fail)

        # When it is discarded
        result = orderctl(env, *DISCARD, "--id", "e-1", "--yes")

    # Then it is stored and still parked
    assert result.exit_code == 1
    assert [entry["event_id"] for entry in discarded(env)] == ["e-1"]
    eventually(lambda: _is_parked(env, "e-1"))


def _is_parked(env: Environment, event_id: str) -> None:
    assert ids(env) == [event_id]


def test_old_discards_are_deleted(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given two discarded messages, one of them 31 days ago
    for event_id in ("e-old", "e-new"):
        park(channel, event_id)
        orderctl(env, *DISCARD, "--id", event_id, "--yes")
    age = timedelta(days=31)
    with transaction(settings, CONSOLE) as session:
        old = update(DiscardRow).where(DiscardRow.event_id == "e-old")
        session.execute(old.values(discarded_at=func.now() - age))

    # When the messages are listed
    listed = discarded(env)

    # Then the old one is deleted
    assert [entry["event_id"] for entry in listed] == ["e-new"]
    with transaction(settings, CONSOLE) as session:
        assert session.scalar(select(func.count()).select_from(DiscardRow)) == 1


def test_discard_takes_all_named_messages_or_none(channel: Channel, env: Environment) -> None:
    # Given one parked message
    park(channel, "e-1")

    # When one of two named events is not parked
    result = orderctl(env, *DISCARD, "--yes", "--id", "e-1", "--id", "e-9")

    # Then neither is discarded
    assert (result.exit_code, result.stderr) == (1, "Error: not parked by inventory: e-9\n")
    assert ids(env) == ["e-1"]
    assert discarded(env) == []


def test_one_of_several_bodies_of_an_event_is_discarded(channel: Channel, env: Environment) -> None:
    # Given a forged message with the id of a parked event
    park(channel, "e-1", event={"subject": "forged"})
    park(channel, "e-1", event={"subject": "real"})
    digests = {message["order_id"]: message["digest"] for message in parked(env)}

    # When the event is discarded, without and with the digest of a body
    refused = orderctl(env, *DISCARD, "--id", "e-1", "--yes")
    taken = orderctl(env, *DISCARD, "--id", "e-1", "--yes", "--digest", digests["forged"])

    # Then the first is refused with both digests, and the second takes one message
    assert refused.exit_code == 1
    assert "e-1 is parked with different bodies" in refused.stderr
    assert all(digest in refused.stderr for digest in digests.values())
    assert taken.exit_code == 0, taken.output
    assert [message["order_id"] for message in parked(env)] == ["real"]


@pytest.mark.parametrize("limit", ["LIMIT", "BYTES_LIMIT"])
def test_a_discard_beyond_its_limits_is_reported(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    # Given an event that is parked more often than a discard has room for
    monkeypatch.setattr(choice, limit, 1)
    for _ in range(3):
        park(channel, "e-1")

    # When it is discarded
    result = orderctl(env, *DISCARD, "--id", "e-1", "--yes")

    # Then the discarded messages are stored, and the others are reported and stay
    assert result.exit_code == 1
    assert "1 discarded, and 2 left parked: discard them again" in result.stderr
    assert [entry["event_id"] for entry in discarded(env)] == ["e-1"]
    assert ids(env) == ["e-1", "e-1"]


def test_the_list_of_discarded_messages_reads_no_bodies(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given a discarded message
    park(channel, "e-1")
    orderctl(env, *DISCARD, "--id", "e-1", "--yes")
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    # When the messages are listed
    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert [entry.event_id for entry in discards.newest(settings)] == ["e-1"]
    finally:
        event.remove(Engine, "before_cursor_execute", note)

    # Then their content stays in the database
    assert not [statement for statement in statements if "body" in statement]


@pytest.mark.parametrize(("answer", "left"), [("n\n", ["e-1"]), ("", ["e-1"]), ("y\n", [])])
def test_discard_asks_for_confirmation(
    channel: Channel, env: Environment, answer: str, left: list[str]
) -> None:
    # Given a parked message
    park(channel, "e-1")

    # When the question is answered
    result = orderctl(env, *DISCARD, "--id", "e-1", answer=answer)

    # Then the message is discarded only after a yes
    assert "inventory: discard e-1?" in result.stderr
    assert result.exit_code == (1 if left else 0)
    assert ("no way" in result.stdout) is (not left)
    assert ids(env) == left


def test_discard_requires_an_id_and_a_reason(env: Environment) -> None:
    assert orderctl(env, *DISCARD).exit_code == 64
    assert orderctl(env, "parked", "discard", "inventory", "--id", "e-1").exit_code == 64
