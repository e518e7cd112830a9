"""While an order has a parked event, its later events wait; a redrive handles them in sequence."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from common.events import Data, Line, OrderConfirmed, OrderCreated, OrderShipped
from common.kombu_topology import NOTIFICATION
from eventbus.consumer import operator_pause
from eventbus.database.db import transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.in_flight import Outgoing
from testkit.eventually import eventually
from testkit.mail.mailbox import Mailbox
from testkit.processes.operated import operated
from testkit.processes.orderctl import orderctl
from testkit.processes.publishers import publish_and_settle
from testkit.processes.stack import RETRY_TIERS, Stack
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost
from testkit.system.sequence import park_in_sequence

Environment = dict[str, str]

ORDERS = 20

PROGRAM = "testkit.programs.sequenced.notification_worker"

TYPES = ["order.created", "order.confirmed", "order.shipped"]


@pytest.fixture
def env(migrated_env: Environment, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment of `orderctl` for a shop whose notification service parks in sequence."""
    park_in_sequence(monkeypatch, NOTIFICATION)
    return migrated_env | {"RETRY_TIERS": ",".join(map(str, RETRY_TIERS))}


@pytest.fixture
def system(
    servers: Infrastructure,
    databases: Databases,
    env: Environment,
    vhost: Vhost,
    mailbox: Mailbox,
    tmp_path: Path,
) -> Iterator[Stack]:
    """A system without workers; the workers of the notification service will have a bug."""
    with operated(servers, databases, env, vhost, mailbox, tmp_path) as stack:
        bug = tmp_path / "bug"
        bug.touch()
        stack.extra |= {"BUG": str(bug), "CRASH": str(tmp_path / "crash")}
        # If the events that wait were counted, the service would pause.
        stack.extra["PARKING_BURST_LIMIT"] = str(ORDERS + 1)
        yield stack


def events_of(order: UUID) -> list[Event]:
    """Return the events of an order, in their sequence."""
    line = Line(sku="TEA", quantity=1, unit_price=1)
    facts = {"customer_email": "a@example.com", "currency": "EUR", "total": 1, "lines": (line,)}
    data: list[Data] = [OrderCreated(**facts), OrderConfirmed(**facts), OrderShipped(**facts)]
    return [
        Event(source="order", subject=order, sequence=number, data=one)
        for number, one in enumerate(data, start=1)
    ]


def publish(system: Stack, events: Sequence[Event]) -> None:
    with closing(system.publisher()) as publisher:
        batch = [Outgoing(e.id, e.type, codec.encode(e).decode(), e.subject) for e in events]
        assert publish_and_settle(publisher, batch).error is None


def run(env: Environment, *arguments: str, status: int = 0) -> str:
    result = orderctl(env, "parked", *arguments)
    assert result.exit_code == status, result.output
    return result.output


def planned(env: Environment, *arguments: str) -> dict[str, object]:
    made = orderctl(env, "parked", "plan", "notification", "--json", *arguments)
    assert made.exit_code == 0, made.output
    document: dict[str, object] = json.loads(made.stdout)
    return document


def fix(system: Stack) -> None:
    Path(system.extra["BUG"]).unlink()


def handled(system: Stack, order: UUID) -> list[str]:
    query = "SELECT type FROM inbox WHERE subject = :order ORDER BY handled_at"
    return system.execute("notification", query, order=order)


def assert_handled_in_sequence(system: Stack, orders: Sequence[UUID]) -> None:
    """Require that each event had one effect, after the events ahead of it."""
    for order in orders:
        assert handled(system, order) == TYPES
    mails = "SELECT count(*) FROM notifications"
    assert system.execute("notification", mails) == [len(orders) * len(TYPES)]
    assert system.execute("notification", "SELECT count(*) FROM parked_events") == [0]


def assert_parked(system: Stack, count: int) -> None:
    depths = [system.vhost.depth(queue) for queue in (NOTIFICATION.queue, NOTIFICATION.parking_lot)]
    assert depths == [0, count]


def assert_all_parked(system: Stack, env: Environment, events: Sequence[Event]) -> None:
    """Require that each event is parked, and perhaps copies of some of them."""
    assert system.vhost.depth(NOTIFICATION.queue) == 0
    listed = orderctl(env, "parked", "list", "notification", "--json")
    found = {message["id"] for message in json.loads(listed.stdout)}
    assert found == {str(event.id) for event in events}


def pause(system: Stack) -> operator_pause.OperatorPause | None:
    with transaction(system.sessions("notification")) as session:
        return operator_pause.read(session)


def test_later_events_wait_and_a_redrive_handles_them_in_sequence(
    system: Stack, env: Environment
) -> None:
    # Given two workers with a bug, and orders whose first event is parked
    for alias in ("one", "two"):
        system.start("notification-worker", module=PROGRAM, alias=alias)
    orders = [events_of(uuid4()) for _ in range(ORDERS)]
    publish(system, [created for created, *_ in orders])
    eventually(lambda: assert_parked(system, ORDERS))

    # When their later events arrive
    publish(system, [later for _, *rest in orders for later in rest])

    # Then none is handled: they wait as one group, and do not pause the service
    eventually(lambda: assert_parked(system, 3 * ORDERS))
    assert system.execute("notification", "SELECT count(*) FROM inbox") == [0]
    failed, waiting = json.loads(run(env, "groups", "--json"))
    assert (failed["failure"], failed["count"]) == ("Permanent", ORDERS)
    assert (waiting["failure"], waiting["type"]) == ("WaitsBehind", None)
    assert waiting["count"] == 2 * ORDERS
    assert pause(system) is None

    # When later events are redriven alone, without a plan and with one
    created, confirmed, shipped = orders[0]
    run(env, "redrive", "notification", "--id", str(confirmed.id))
    eventually(lambda: assert_parked(system, 3 * ORDERS))
    plan = planned(env, "--id", str(shipped.id))
    output = run(env, "run", str(plan["id"]), status=1)

    # Then they wait again; the plan contains both later events
    assert "stage of 1: 1 waiting" in output
    assert f"2 wait behind parked events; redrive or discard these: {created.id}" in output
    assert handled(system, created.subject) == []

    # When the bug is fixed, and the failed events are redriven
    fix(system)
    plan = planned(env, "--exception", "Permanent")
    assert plan["effects"] == {"handle": ORDERS, "handle in sequence": 2 * ORDERS}
    output = run(env, "run", str(plan["id"]))

    # Then all are handled, in sequence, each once
    assert f"done; {3 * ORDERS} handled" in output
    assert_parked(system, 0)
    assert_handled_in_sequence(system, [created.subject for created, *_ in orders])


@pytest.mark.parametrize("point", ["recorded, not published", "published, not acknowledged"])
def test_a_worker_that_is_killed_while_parking_lets_no_event_pass(
    system: Stack, env: Environment, point: str
) -> None:
    # Given a worker that is killed between the record of an event and its parking
    Path(system.extra["CRASH"]).write_text(point)
    system.start("notification-worker", module=PROGRAM)
    events = events_of(uuid4())

    # When an order's events are published, and another worker takes over
    publish(system, events)
    system.wait_until_killed("notification-worker")
    records = "SELECT event_id FROM parked_events WHERE behind IS NULL"
    assert system.execute("notification", records) == [events[0].id]
    system.start("notification-worker", module=PROGRAM, alias="another")

    # Then no event is lost, and none passes the parked one
    eventually(lambda: assert_all_parked(system, env, events))
    assert handled(system, events[0].subject) == []

    # And a redrive handles them in sequence, each once
    fix(system)
    run(env, "run", str(planned(env, "--exception", "Permanent")["id"]))
    run(env, "redrive", "notification", "--all")
    eventually(lambda: assert_parked(system, 0))
    assert_handled_in_sequence(system, [events[0].subject])
