"""Plans, discards and releases of a service that parks in sequence, without workers."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from amqp import Channel
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from common.kombu_topology import CONSOLE, INVENTORY
from console.actions.parked import CONSUMERS
from console.databases.service_database import transaction
from console.parking import choice, journal
from console.parking.redrive import preparation, stage
from console.parking.release import release
from eventbus.consumer import parked_events
from testkit.data.parked import drained, park, parked
from testkit.data.redrives import discard, planned, run
from testkit.eventually import eventually
from testkit.system.sequence import park_in_sequence
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]


@pytest.fixture(autouse=True)
def _in_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    park_in_sequence(monkeypatch, INVENTORY)


class Killed(BaseException):
    """The end of a process."""


@dataclass
class Order:
    """An order with parked events: the first has failed, and the others wait behind it."""

    events: list[str]


@pytest.fixture
def order(channel: Channel, settings: OperatorSettings) -> Order:
    """An order of which two events are parked."""
    return parked_order(channel, settings, "KeyError")


def parked_order(channel: Channel, settings: OperatorSettings, exception: str) -> Order:
    """Park two events of an order as the service does."""
    subject, names = str(uuid4()), [str(uuid4()) for _ in range(2)]
    for number, name in enumerate(names, start=1):
        event = {"id": name, "source": "order", "subject": subject, "sequence": number}
        reason = exception if number == 1 else "WaitsBehind"
        park(channel, name, event=event, type="order.created", exception=reason)
        with transaction(settings, INVENTORY) as session:
            position = parked_events.Position(UUID(name), "order", UUID(subject), number)
            behind = UUID(names[0]) if number > 1 else None
            parked_events._upsert(session, [(position, behind)])
    return Order(names)


def recorded(settings: OperatorSettings) -> set[str]:
    """Return the recorded events."""
    with transaction(settings, INVENTORY) as session:
        return set(map(str, session.scalars(select(parked_events.parked_events.c.event_id))))


def effects(plan: dict[str, object]) -> dict[str, str]:
    """Return the effect of each message of a plan."""
    messages: list[dict[str, str]] = plan["messages"]  # type: ignore[assignment]
    return {message["event_id"]: message["effect"] for message in messages}


def test_a_plan_includes_the_events_that_wait_behind_its_own(
    channel: Channel, env: Environment, settings: OperatorSettings, order: Order
) -> None:
    # Given another order, whose first event failed for another reason
    parked_order(channel, settings, "ValueError")

    # When the events with the first failure are planned
    plan = planned(env, "--exception", "KeyError")

    # Then only the later event of their order is planned as well
    first, second = order.events
    assert effects(plan) == {first: "handle", second: "handle in sequence"}
    assert plan["states"] == {"planned": 2}


def test_a_plan_contains_no_other_message_that_cannot_be_redriven(
    channel: Channel, env: Environment, order: Order
) -> None:
    # Given a message that waits, and is not an event
    park(channel, "e-1", exception="WaitsBehind")

    # When the events with another failure are planned
    plan = planned(env, "--exception", "KeyError")

    # Then the message is not in the plan, and is not a plan by itself
    assert set(effects(plan)) == set(order.events)
    none = run(env, "plan", "inventory", "--exception", "OSError", status=1)
    assert "no parked message of inventory meets the criteria" in none


def test_an_event_that_also_waits_is_planned(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an event of which one copy waited and another failed, in two batches
    monkeypatch.setattr(preparation, "BATCH", 1)
    event_id = str(uuid4())
    for exception in ("WaitsBehind", "KeyError"):
        event = {"id": event_id, "subject": str(uuid4())}
        park(channel, event_id, event=event, type="order.created", exception=exception)

    # When the events with the failure are planned
    plan = planned(env, "--exception", "KeyError")

    # Then the copy that failed is in the plan
    assert plan["states"] == {"planned": 1}


def test_a_later_event_alone_is_not_redriven(
    channel: Channel, env: Environment, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If it was redriven, no worker would handle it.
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    # When only the later event is planned, and the plan runs
    first, second = order.events
    plan = str(planned(env, "--id", second)["id"])
    output = run(env, "run", plan, status=1)

    # Then it stays parked, the error names the event ahead of it, and the plan can run again
    assert "stage of 1: 1 waiting" in output
    assert f"1 wait behind parked events; redrive or discard these: {first}" in output
    assert drained(channel, "inventory.queue") == []
    assert run(env, "run", plan, status=1) == output


def test_a_discard_lets_later_events_pass(
    env: Environment, settings: OperatorSettings, order: Order
) -> None:
    # When the first event is discarded
    first, second = order.events
    discard(env, first)

    # Then the second can be redriven
    assert recorded(settings) == {second}
    assert effects(planned(env)) == {second: "handle"}

    # And after the first is restored, the second waits again
    run(env, "restore", "1")
    eventually(lambda: _assert_parked(env, {first, second}))
    assert recorded(settings) == {first, second}
    assert effects(planned(env)) == {first: "handle", second: "handle in sequence"}


def test_a_discard_beyond_its_limits_lets_events_pass_what_it_took(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given another order, and a discard with room for one message
    other = parked_order(channel, settings, "KeyError")
    monkeypatch.setattr(choice, "LIMIT", 1)

    # When the first events of both orders are discarded
    (first, second), (left, later) = order.events, other.events
    arguments = ("inventory", "--id", first, "--id", left, "--yes", "--reason", "a test")
    output = run(env, "discard", *arguments, status=1)

    # Then later events pass the discarded event, and not the one that is left
    assert "1 discarded, and 1 left parked" in output
    assert recorded(settings) == {second, left, later}


def test_a_discard_of_one_of_two_bodies_lets_no_event_pass(
    channel: Channel, env: Environment, settings: OperatorSettings, order: Order
) -> None:
    # Given another message with the id of the first event
    first, _ = order.events
    park(channel, first, event={"id": first}, type="order.created")
    forged = next(m["digest"] for m in parked(env) if m["exception"] == "ValueError")

    # When it is discarded
    discard(env, first, "--digest", forged)

    # Then the real event is still ahead
    assert first in recorded(settings)


def test_an_operator_lets_later_events_pass(
    env: Environment, settings: OperatorSettings, order: Order
) -> None:
    # When an event is released
    first, second = order.events
    output = run(env, "release", "inventory", first, "--reason", "a test")

    # Then it stays parked, and the later event can be redriven
    assert f"later events pass {first}" in output
    assert recorded(settings) == {second}
    assert effects(planned(env)) == {first: "handle", second: "handle"}
    assert "released" in run(env, "history", "inventory", first)

    # And another release, or one of a service without the option, is refused
    again = run(env, "release", "inventory", first, "--reason", "a test", status=1)
    assert f"inventory has no record of {first}" in again
    other = run(env, "release", "order", first, "--reason", "a test", status=1)
    assert "order does not park in sequence" in other


def test_a_release_is_recorded_before_it_is_made(
    env: Environment,
    settings: OperatorSettings,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a process that is killed when it has recorded the release
    def die(*arguments: Any) -> None:
        record(*arguments)
        arguments[0].commit()
        raise Killed

    record = journal.record
    monkeypatch.setattr(journal, "record", die)
    first, second = order.events
    with pytest.raises(Killed):
        release(settings, CONSUMERS["inventory"], first, reason="a test", released_by="ada")

    # Then later events do not pass the event, and the journal has the release
    monkeypatch.undo()
    assert recorded(settings) == {first, second}
    with transaction(settings, CONSOLE) as session:
        (entry,) = journal.of_message(session, "inventory", first)
    assert (entry.change, entry.recorded_by, entry.text) == ("released", "ada", "a test")


def test_a_release_that_cannot_be_recorded_is_not_made(
    settings: OperatorSettings, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a journal that cannot be written
    def fail(*_: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("the console's database is down"))

    monkeypatch.setattr(journal, "record", fail)
    first, second = order.events

    # When an event is released, then nothing changes
    with pytest.raises(OperationalError):
        release(settings, CONSUMERS["inventory"], first, reason="a test", released_by="ada")
    assert recorded(settings) == {first, second}


def _assert_parked(env: Environment, names: set[str]) -> None:
    assert {message["id"] for message in parked(env)} == names
