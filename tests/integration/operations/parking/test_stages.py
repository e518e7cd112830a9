"""Stages of a redrive plan that contain messages which are gone, and very large stages.

There are no workers: events are recorded as handled.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from amqp import Channel
from sqlalchemy import func, insert, literal, select
from sqlalchemy.event import listen, remove

from common.kombu_topology import INVENTORY
from console.models import ItemRow, ItemState, PlanRow, PlanState
from console.parking.effects import Effects
from console.parking.redrive import stage
from console.parking.redrive.progress import Progress
from console.parking.redrive.stage import Stage
from eventbus.consumer.inbox import inbox
from eventbus.database import db
from eventbus.database.db import Sessions, engine_of, transaction
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


def test_a_stage_may_have_any_number_of_messages(console_database: Sessions) -> None:
    # Given a plan of many messages
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
        plan_id = plan.id
    progress = Progress(plan_id, console_database, "ada")

    # When all are in one stage, and none is found
    with few_parameters(console_database):
        positions = [item.position for item in progress.begin(MANY)]
        removed = progress.removed(positions)
        progress.defer(positions)

    # Then all are planned again
    assert len(positions) == MANY
    assert removed == {}
    assert progress.unfinished() == []


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
