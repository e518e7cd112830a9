"""`orderctl contracts retire`: it finds each user of a type, and takes nothing from anybody."""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from common.events import OrderCreated, OrderCreatedV2
from common.kombu_topology import EVENTS, INVENTORY, NOTIFICATION, SERVICES
from console.actions import contracts, retirement, topology
from console.actions.retirement import Findings, uses
from console.broker.queue_inspection import LOOKS
from console.commands import contracts as command
from console.orderctl import main
from console.settings import RetirementSettings
from eventbus.consumer.receive import Handlers, receive
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec, schema
from eventbus.events.conversion import convert
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from eventbus.outbox.table import append
from eventbus.topology.service import Service
from testkit.data.migrated import MIGRATED, services_are
from testkit.data.outboxes import CREATED, event
from testkit.eventually import eventually
from testkit.servers.bindings import bind
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

V1, V2 = OrderCreated.TYPE, OrderCreatedV2.TYPE
LATELY = timedelta(hours=1)


class TestSettings(RetirementSettings):
    """An operator's settings, for databases of the test's own."""

    __test__ = False

    names: dict[str, str]
    postgres_password: SecretStr

    def login(self, _service: str) -> tuple[str, SecretStr]:
        """Return the server's administrator."""
        return "postgres", self.postgres_password

    def database_name(self, service: str) -> str:
        """Return the name of the test's database."""
        return self.names[service]


class Place:
    """A broker and databases after the last step of a move to the second version."""

    def __init__(self, settings: TestSettings, broker: Vhost) -> None:
        self.settings = settings
        self.broker = broker

    def look(self, services: tuple[Service, ...] = MIGRATED) -> Findings:
        return uses(self.settings, V1, within=LATELY, services=services)

    def found(self) -> list[tuple[str, str, int | None]]:
        return [(use.kind, use.place, use.count) for use in self.look().uses]

    def put(self, queue: str, *events: Event, **properties: Any) -> None:
        """Put messages of these events into a queue."""
        for each in events:
            self.broker.publish(
                codec.wrap(codec.encode(each)),
                exchange="",
                routing_key=queue,
                headers=task_headers(str(each.id), each.type, None),
                message_id=str(each.id),
                timestamp=int(time.time()),
                **properties,
            )

    def ids(self, queue: str) -> list[str]:
        """What is ready in a queue, in its order; this look counts, too."""
        return [message.headers["id"] for message in self.broker.messages(queue)]


@pytest.fixture
def sessions_of(
    order_database: Sessions, inventory_database: Sessions, notification_database: Sessions
) -> dict[str, Sessions]:
    """Sessions on the databases of all services."""
    return {
        "order": order_database,
        "inventory": inventory_database,
        "notification": notification_database,
    }


@pytest.fixture
def place(
    servers: Infrastructure,
    vhost: Vhost,
    sessions_of: dict[str, Sessions],
    database_of: Callable[[str], TestDatabase],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """The place, with nothing in it."""
    names = {name: str(s.kw["bind"].url.database) for name, s in sessions_of.items()}
    for service in SERVICES:
        if service.name not in names:
            names[service.name] = str(database_of(service.name).url.database)
    settings = TestSettings(
        **vhost.administrator,
        secrets_dir=servers.secrets_dir,
        database_port=servers.postgres_port,
        database_ca_file=servers.ca_file,
        names=names,
        postgres_password=servers.postgres_password,
    )
    services_are(monkeypatch)
    list(topology.apply(settings, prune=True))  # type: ignore[arg-type]
    return Place(settings, vhost)


def in_version_2() -> Event:
    return convert(event(CREATED), V2)


# --- Nothing ------------------------------------------------------------------------------------


def test_a_type_that_nothing_uses_has_no_users(
    place: Place, sessions_of: dict[str, Sessions]
) -> None:
    # given the next version everywhere
    place.put(INVENTORY.queue, in_version_2())
    place.put(INVENTORY.parking_lot, in_version_2())
    with transaction(sessions_of["order"]) as session:
        append(session, in_version_2())
    handled(sessions_of["inventory"], in_version_2())

    # then
    assert place.look() == Findings(uses=(), unseen=())


# --- Each user ----------------------------------------------------------------------------------


def test_the_code_uses_what_its_services_say_and_hear(place: Place) -> None:
    found = [(use.kind, use.place, use.text) for use in place.look(SERVICES).uses]

    assert ("code", "order", "publishes it, according to the topology") in found
    hear = {name for kind, name, text in found if kind == "code" and "consumes" in text}
    assert (
        hear
        == {s.name for s in SERVICES if V1 in s.consumed_types}
        >= {"inventory", "notification"}
    )


def test_a_user_who_may_publish_it_uses_it(place: Place) -> None:
    # given a right that was not withdrawn
    right = {"exchange": EVENTS.name, "write": r"^(order\.created|order\.confirmed)$", "read": "^$"}
    path = f"/topic-permissions/{place.broker.name}/order"
    place.broker.request("PUT", path, json=right)

    assert place.found() == [("right", "user order", None)]


@pytest.mark.parametrize("key", [V1, "order.*", "#", "*.created", "order.created.#"])
def test_a_queue_that_is_bound_to_it_uses_it(place: Place, key: str) -> None:
    bind(place.broker, INVENTORY.queue, key)

    assert place.found() == [("binding", INVENTORY.queue, None)]


@pytest.mark.parametrize("key", ["order.created.*", "*.created.v2", "order", "order.createdx", "*"])
def test_a_queue_that_is_bound_to_something_else_does_not(place: Place, key: str) -> None:
    bind(place.broker, INVENTORY.queue, key)

    assert place.found() == []


def test_an_unsent_event_uses_it_and_a_sent_one_does_not(
    place: Place, sessions_of: dict[str, Sessions]
) -> None:
    # given
    with transaction(sessions_of["order"]) as session:
        for _ in range(3):
            append(session, event(CREATED))
        session.connection().exec_driver_sql(
            "UPDATE outbox SET sent_at = now() WHERE id = (SELECT min(id) FROM outbox)"
        )

    assert place.found() == [("outbox", "order", 2)]


@pytest.mark.parametrize(
    "queue",
    [
        INVENTORY.queue,
        NOTIFICATION.queue,
        INVENTORY.retry_queue(600.0),
        INVENTORY.parking_lot,
    ],
)
def test_a_message_in_a_queue_uses_it(place: Place, queue: str) -> None:
    place.put(queue, in_version_2(), event(CREATED), in_version_2(), event(CREATED))

    found = place.look().uses

    assert [(use.kind, use.place, use.count) for use in found] == [("queue", queue, 2)]
    assert "2 messages, the oldest from 20" in found[0].text


def test_a_message_in_a_stream_uses_it(place: Place) -> None:
    # given a stream of whoever's, that is bound no more
    stream = {"durable": True, "arguments": {"x-queue-type": "stream"}}
    place.broker.request("PUT", f"/queues/{place.broker.name}/history", json=stream)
    place.put("history", in_version_2(), event(CREATED), in_version_2(), event(CREATED))

    assert place.found() == [("stream", "history", 2)]
    # and it is still there
    assert place.found() == [("stream", "history", 2)]


def test_a_consumer_that_has_handled_it_lately_uses_it(
    place: Place, sessions_of: dict[str, Sessions]
) -> None:
    # given one handled now, and one long ago
    for each in (event(CREATED), event(CREATED)):
        handled(sessions_of["notification"], each)
    with transaction(sessions_of["notification"]) as session:
        session.connection().exec_driver_sql(
            "UPDATE inbox SET handled_at = now() - interval '2 hours'"
            " WHERE event_id = (SELECT max(event_id::text)::uuid FROM inbox)"
        )

    assert place.found() == [("consumer", "notification", 1)]


def handled(sessions: Sessions, given: Event) -> None:
    """Let a service have handled an event, in the version in which it came."""
    handlers: Handlers = {OrderCreatedV2: lambda *_: None}
    body = codec.wrap(codec.encode(given))
    receive(sessions, handlers, body, task=given.type, attempts=1)


# --- A look takes nothing -----------------------------------------------------------------------


def test_messages_keep_their_order_and_are_all_there_after_a_look(place: Place) -> None:
    # given
    events = [event(CREATED) for _ in range(50)]
    place.put(INVENTORY.queue, *events)

    # when
    assert place.found() == [("queue", INVENTORY.queue, 50)]

    # then
    eventually(lambda: depth_is(place, INVENTORY.queue, 50))
    assert place.ids(INVENTORY.queue) == [str(each.id) for each in events]


def test_however_often_somebody_looks_no_message_reaches_the_delivery_limit(place: Place) -> None:
    # given
    events = [event(CREATED) for _ in range(3)]
    place.put(INVENTORY.queue, *events)

    # when
    for _ in range(2 * LOOKS + 6):
        assert place.found() == [("queue", INVENTORY.queue, 3)]
        eventually(lambda: depth_is(place, INVENTORY.queue, 3))

    # then
    assert place.broker.depth(INVENTORY.parking_lot) == 0
    assert sorted(place.ids(INVENTORY.queue)) == sorted(str(each.id) for each in events)


def depth_is(place: Place, queue: str, count: int) -> None:
    assert place.broker.depth(queue) == count


def test_what_could_not_be_seen_may_be_of_the_type(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given more messages than one look takes
    monkeypatch.setattr("console.broker.queue_inspection.LIMIT", 2)
    place.put(INVENTORY.queue, *(in_version_2() for _ in range(5)))

    # when
    (use,) = place.look().uses

    # then
    assert (use.kind, use.place) == ("queue", INVENTORY.queue)
    assert use.text == (
        "3 or more messages could not be inspected, after 2: they may be of this type"
    )


# --- The command --------------------------------------------------------------------------------


@pytest.fixture
def orderctl(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Run the command on the place and a folder of released contracts."""
    monkeypatch.setattr(command, "load_operator", lambda _: place.settings)
    monkeypatch.setattr(retirement, "uses", partial(uses, services=MIGRATED))
    list(contracts.release(tmp_path))

    def run(*arguments: str) -> Result:
        whole = ["contracts", *arguments, "--released", str(tmp_path)]
        return CliRunner().invoke(main, whole, catch_exceptions=False)

    return run


def test_a_type_in_use_is_not_retired_and_its_users_are_told(
    place: Place, orderctl: Callable[..., Result], tmp_path: Path
) -> None:
    # given
    bind(place.broker, INVENTORY.queue, V1)
    before = (tmp_path / f"{V1}.json").read_text()

    # when
    told, document = orderctl("retire", "order.created.v1"), orderctl("retire", V1, "--json")

    # then
    assert told.exit_code == document.exit_code == 2
    assert told.output.splitlines() == [
        f"binding {INVENTORY.queue}: would receive it",
        "order.created is not retired; remaining uses: 1",
    ]
    assert json.loads(document.output) == {
        "type": V1,
        "retired": False,
        "since": None,
        "uses": [
            {
                "kind": "binding",
                "place": INVENTORY.queue,
                "text": "would receive it",
                "count": None,
            }
        ],
        "unseen": [],
    }
    assert (tmp_path / f"{V1}.json").read_text() == before


def test_a_type_that_nothing_uses_is_retired_and_the_code_may_lose_it(
    orderctl: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # when
    first, again = orderctl("retire", "order.created.v1"), orderctl("retire", V1)

    # then
    assert (first.exit_code, first.output) == (again.exit_code, again.output)
    assert first.exit_code == 0
    assert "order.created is unused: retired since 20" in first.output
    # and another release keeps the mark
    assert "nothing to release" in orderctl("release").output

    # and when the code loses it
    left = {name: schema for name, schema in schema.schemas().items() if name != V1}
    monkeypatch.setattr(codec, "schemas", lambda: left)

    # then
    checked = orderctl("check")
    assert checked.exit_code == 0
    assert "compatible: order.created $.data: event type removed: it was retired on" in (
        checked.output
    )


def test_a_type_that_is_none_is_refused(orderctl: Callable[..., Result]) -> None:
    result = orderctl("retire", "order.lost")

    assert result.exit_code == 64
    assert "order.lost is not an event type" in result.output
