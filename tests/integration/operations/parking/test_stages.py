"""Stages of a redrive plan that contain messages which are gone, and very large stages.

There are no workers: events are recorded as handled.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from amqp import Channel
from sqlalchemy import func, insert, literal, select, text
from sqlalchemy.event import listen, remove

from common.kombu_topology import INVENTORY
from console.models import ItemRow, ItemState, PlanRow, PlanState
from console.parking.effects import Effects
from console.parking.redrive import plans, stage
from console.parking.redrive.progress import Progress
from console.parking.redrive.stage import Stage
from eventbus.consumer.inbox import inbox
from eventbus.database import db
from eventbus.database.db import Sessions, engine_of, transaction
from testkit.data.page_reads import counted
from testkit.data.parked import drained
from testkit.data.redrives import discard, handle, park_event, planned, run
from testkit.servers.databases import TestDatabase
from tests.support.operator_settings import OperatorSettings

Environment = dict[str, str]

#: More than the parameters of a statement in PostgreSQL's protocol, if the server binds them.
MANY = 70_000


@pytest.fixture
def console_database(database_of: Callable[[str], TestDatabase]) -> Iterator[Sessions]:
    """Sessions on a fresh database of the console."""
    engine = db.engine(database_of("console").service_settings, pool_size=1)
    yield db.sessions(engine)
    engine.dispose()


@contextmanager
def few_parameters(sessions: Sessions) -> Iterator[None]:
    """Check that no statement of the block has more than a few parameters."""
    engine, counts = engine_of(sessions), list[int]()

    def count(*arguments: Any) -> None:
        _connection, _cursor, _statement, parameters, *_ = arguments
        counts.append(len(parameters))

    listen(engine, "before_cursor_execute", count)
    yield
    remove(engine, "before_cursor_execute", count)
    assert counts
    assert max(counts) < 10


def test_messages_that_are_no_longer_parked_take_no_stage(
    channel: Channel, env: Environment, settings: OperatorSettings
) -> None:
    # Given a plan, some messages of which are discarded, or redriven by another command
    ids = [park_event(channel) for _ in range(9)]
    plan = str(planned(env)["id"])
    discard(env, ids[0])
    discard(env, ids[8])
    run(env, "redrive", "inventory", "--id", ids[1])
    handle(settings, *ids[1:8])

    # When the plan runs
    *stages, result = run(env, "run", plan).splitlines()

    # Then its stages have only the other messages
    assert stages == ["stage of 1: 1 handled", "stage of 5: 5 handled"]
    assert "2 gone, 7 handled" in result


def test_a_stage_whose_messages_are_all_gone_is_repeated_at_its_size(
    channel: Channel,
    env: Environment,
    settings: OperatorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a plan, the first messages of which are discarded, or redriven by another command, after
    # the run has read the parking lot
    monkeypatch.setattr(Stage, "settle_absent", lambda *_: None)
    ids = [park_event(channel) for _ in range(8)]
    plan = str(planned(env)["id"])
    discard(env, ids[0])
    run(env, "redrive", "inventory", "--id", ids[1])
    handle(settings, *ids[1:])

    # When the plan runs
    stages = [line for line in run(env, "run", plan).splitlines() if line.startswith("stage")]

    # Then the second size follows the first message that was redriven
    assert stages == [
        "stage of 1: 1 gone",
        "stage of 1: 1 handled",
        "stage of 1: 1 handled",
        "stage of 5: 5 handled",
    ]


def test_a_cause_that_is_not_fixed_stops_a_run_after_one_message(
    channel: Channel, env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a plan, the first message of which is discarded, and no worker
    monkeypatch.setattr(stage, "OUTCOME_LIMIT", 1.0)
    ids = [park_event(channel) for _ in range(8)]
    plan = str(planned(env)["id"])
    discard(env, ids[0])

    # When the plan runs
    output = run(env, "run", plan, status=1)

    # Then one message was redriven
    assert "1 of 1 neither handled nor parked" in output
    assert [message.headers["id"] for message in drained(channel, "inventory.queue")] == [ids[1]]


@pytest.fixture
def large(console_database: Sessions) -> Progress:
    """A plan of many messages."""
    with transaction(console_database) as session:
        plan = PlanRow(service="inventory", criteria={}, state=PlanState.READY, created_by="ada")
        session.add(plan)
        session.flush()
        number = func.generate_series(1, MANY).column_valued("number")
        columns = {
            "plan_id": literal(plan.id),
            "position": number,
            "event_id": func.concat("e-", number),
            "digest": literal("0" * 64),
            "effect": literal("handle"),
            "rank": literal(0),
            "state": literal(ItemState.PLANNED),
        }
        session.execute(insert(ItemRow).from_select([*columns], select(*columns.values())))
        plans.count(session, plan.id)
        return Progress(plan.id, console_database, "ada")


def numbers(progress: Progress) -> dict[str, int]:
    """Return the stored numbers of a plan, after checking them against its messages."""
    with transaction(progress._sessions) as session:
        stored = plans.find(session, progress.plan_id).states
        plans.count(session, progress.plan_id)
        assert stored == plans.find(session, progress.plan_id).states
    return stored


def test_a_stage_may_have_any_number_of_messages(
    console_database: Sessions, large: Progress
) -> None:
    progress = large
    # When all are in one stage, and none is found
    with few_parameters(console_database):
        positions = [item.position for item in progress.begin(MANY)]
        removed = progress.removed(positions)
        progress.defer(positions)

    # Then all are planned again
    assert len(positions) == MANY
    assert removed == {}
    assert progress.unfinished() == []
    assert numbers(progress) == {"planned": MANY}


def test_the_numbers_of_a_plan_follow_its_messages(large: Progress) -> None:
    # When messages of a plan are redriven, and have different outcomes
    items = large.begin(10)
    assert numbers(large) == {"planned": MANY - 10, "sent": 10}
    large.record([item.position for item in items[:4]], ItemState.HANDLED)
    notes = {item.position: f"reason {item.position}" for item in items[4:9]}
    large.record(list(notes), ItemState.PARKED, notes)

    # Then the numbers and the reasons are those of the messages
    expected = {"planned": MANY - 10, "handled": 4, "parked again": 5, "sent": 1}
    assert numbers(large) == expected
    with transaction(large._sessions) as session:
        rows = session.scalars(select(ItemRow).where(ItemRow.state == ItemState.PARKED)).all()
        assert {row.position: row.note for row in rows} == notes

    # And when the failed ones are planned again
    large.retry_failed()
    assert numbers(large) == {"planned": MANY - 5, "handled": 4, "sent": 1}


def test_the_page_of_a_plan_costs_the_same_for_any_number_of_messages(large: Progress) -> None:
    # When a plan of many messages is read as its page does
    with transaction(large._sessions) as session:
        session.execute(text("ANALYZE redrive_items"))
        with counted(large._sessions) as pages:
            plan = plans.find(session, large.plan_id)
            shown = session.scalars(plans._items(large.plan_id, 100)).all()

    # Then few pages are read
    assert (plan.states, len(shown)) == ({"planned": MANY}, 100)
    assert 0 < sum(pages) < 100


def test_the_messages_that_are_held_back_are_recorded_together(
    large: Progress, settings: OperatorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a stage, all messages of which wait behind one event
    ahead = uuid4()
    expected = cast(
        "Effects", SimpleNamespace(waiting=lambda ids: dict.fromkeys(ids, ahead), handled=set)
    )
    items = [replace(item, inbox_id=uuid4()) for item in large.begin(50)]
    each = Stage(settings, INVENTORY, large, expected, lambda: False)
    recorded = list[int]()
    stored = Progress.record

    def record(progress: Progress, positions: list[int], *arguments: Any) -> None:
        recorded.append(len(positions))
        stored(progress, positions, *arguments)

    monkeypatch.setattr(Progress, "record", record)

    # When it runs
    outcome = each.run(items, lambda: None)

    # Then they are recorded in one transaction
    assert recorded == [50]
    assert outcome.counts == {ItemState.WAITING: 50}
    assert numbers(large) == {"planned": MANY - 50, "waiting": 50}


def test_the_outcomes_of_any_number_of_messages_are_read(
    inventory_database: Sessions, order_database: Sessions
) -> None:
    # Given a handled event
    row = {"event_id": uuid4(), "type": "order.created", "source": "order", "subject": uuid4()}
    with transaction(inventory_database) as session:
        session.execute(insert(inbox), row | {"attempts": 1, "occurred_at": datetime.now(UTC)})
    effects = Effects(INVENTORY, inventory_database, order_database)

    # When it is one of many
    with few_parameters(inventory_database):
        handled = effects.handled([row["event_id"], *(uuid4() for _ in range(MANY))])

    # Then it is found
    assert handled == {row["event_id"]}
