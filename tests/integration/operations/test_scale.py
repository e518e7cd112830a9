"""`orderctl topology scale` changes the number of parts of a queue while orders flow."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from common.kombu_topology import EVENTS, INVENTORY, ORDER
from console.actions import health, topology
from console.broker.management import Management
from console.errors import ActionError
from console.scaling import parts as scaling
from console.scaling import scale as scale_module
from console.scaling.scale import scale
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.outbox import relay as relays
from eventbus.outbox.relay import Relay
from eventbus.outbox.slots import Part
from testkit.data.outboxes import CREATED, event, record, rows, sent
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf, publishers
from testkit.processes.relays import draining
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.scaling import AdministratorSettings, scale_settings
from testkit.servers.vhosts import Vhost
from testkit.system.part_consumers import PartConsumers

PARTS = replace(INVENTORY, parts=4).queues


@pytest.fixture
def order_data(database_of: Callable[[str], TestDatabase]) -> TestDatabase:
    """The order service's database."""
    return database_of("order")


@pytest.fixture
def outbox(order_data: TestDatabase) -> Iterator[Sessions]:
    """Sessions on it, for several threads."""
    engine = db.engine(order_data.service_settings, session=relays.SESSION, pool_size=8)
    yield db.sessions(engine)
    engine.dispose()


@pytest.fixture
def settings(
    servers: Infrastructure, broker: Vhost, order_data: TestDatabase
) -> AdministratorSettings:
    """The settings of the command."""
    return scale_settings(servers, broker, {"order": order_data})


@pytest.fixture
def publisher_of(servers: Infrastructure, broker: Vhost) -> Iterator[PublisherOf]:
    """Publishers with the user and permissions of a service."""
    with publishers(servers, broker) as make:
        yield make


def divide(settings: AdministratorSettings, parts: int) -> int:
    return scale(settings, INVENTORY, parts, begun=lambda _: None, changed=lambda _: None)


@contextmanager
def ordering(outbox: Sessions, orders: list[UUID]) -> Iterator[None]:
    """Record further events of these orders during the block."""
    ended = threading.Event()

    def go_on() -> None:
        sequence = 0
        while not ended.wait(0.1):
            sequence += 1
            record(outbox, *(event(CREATED, order, sequence) for order in orders))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def require_all_sent(outbox: Sessions) -> None:
    assert len(sent(outbox)) == len(rows(outbox))


def require_arrived(consumers: PartConsumers, count: int) -> None:
    assert len(consumers.arrived) >= count


def test_the_number_of_parts_changes_while_orders_flow(
    broker: Vhost,
    publisher_of: PublisherOf,
    outbox: Sessions,
    settings: AdministratorSettings,
) -> None:
    # Given two relays of one outbox, and a consumer for each of four parts
    two = [Relay(outbox, publisher_of(), part=Part(number, 2)) for number in range(2)]
    orders = [uuid4() for _ in range(30)]
    consumers = PartConsumers(broker)
    with consumers.consuming(PARTS), draining(*two), ordering(outbox, orders):
        eventually(lambda: require_arrived(consumers, 200))

        # When the queue is divided into four parts, and then into two
        assert divide(settings, 4) == 1
        after_four = len(consumers.arrived)
        eventually(lambda: require_arrived(consumers, after_four + 1_000))
        assert divide(settings, 2) == 4
        after_two = len(consumers.arrived)
        eventually(lambda: require_arrived(consumers, after_two + 500))
    with consumers_until_all_arrived(broker, publisher_of, outbox) as rest:
        pass

    # Then each event has arrived once, and those of an order in their order and in one part
    arrived = [*consumers.arrived, *rest.arrived]
    assert Counter(event_id for *_, event_id in arrived) == dict.fromkeys(rows(outbox), 1)
    sequences = defaultdict(list)
    for _, subject, sequence, _ in arrived:
        sequences[subject].append(sequence)
    assert all(found == sorted(found) for found in sequences.values())
    # And every part had events, as long as it existed
    used = {queue for queue, *_ in consumers.arrived[after_four:after_two]}
    assert used == set(PARTS)
    assert {queue for queue, *_ in consumers.arrived[after_two:]} == set(PARTS[:2])
    names = {queue["name"] for queue in broker.request("GET", f"/queues/{broker.name}").json()}
    assert names & set(PARTS) == set(PARTS[:2])


@contextmanager
def consumers_until_all_arrived(
    broker: Vhost, publisher_of: PublisherOf, outbox: Sessions
) -> Iterator[PartConsumers]:
    """Publish and consume what is left."""
    rest = PartConsumers(broker)
    with rest.consuming(PARTS[:2]), draining(Relay(outbox, publisher_of())):
        eventually(lambda: require_all_sent(outbox))
        eventually(lambda: _require_empty(broker, PARTS[:2]))
        yield rest


def test_the_broker_matches_the_code_after_each_change(
    broker: Vhost, settings: AdministratorSettings, orders_divided: None
) -> None:
    for parts in (3, 1, 2, 1):
        # When the number is changed
        divide(settings, parts)

        # Then the setting with the new number finds no difference, and another reports it
        now = settings.model_copy(update={"parts": {"inventory": parts}})
        assert topology.plan(now).differences == ()
        assert [str(d) for d in topology.plan(settings).differences] == (
            []
            if parts == 1
            else [
                f"parts of inventory.queue: {parts}, but PARTS has 1; orderctl topology scale"
                " inventory 1 changes them while orders flow"
            ]
        )
        # And applying the topology changes nothing
        list(topology.apply(settings))
        assert topology.plan(now).differences == ()
        # And the parts without a worker are findings
        without = {f.name for f in health.look(now).findings if f.kind == "no_consumer"}
        assert {name for name in without if name.startswith("inventory.queue")} == set(
            replace(INVENTORY, parts=parts).queues
        )
    exchanges = broker.request("GET", f"/exchanges/{broker.name}").json()
    assert INVENTORY.part_exchange not in {exchange["name"] for exchange in exchanges}


@pytest.fixture
def orders_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for old counts of queues that never had a message."""
    monkeypatch.setattr(scaling, "SETTLED", 0.0)


def test_a_queue_that_does_not_run_empty_stops_the_change(
    broker: Vhost,
    publisher_of: PublisherOf,
    outbox: Sessions,
    settings: AdministratorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a queue without a worker
    relay = Relay(outbox, publisher_of())
    with draining(relay):
        record(outbox, event(CREATED))
        eventually(lambda: require_all_sent(outbox))
        before = _objects(broker)
        monkeypatch.setattr(scaling, "PATIENCE", 8.0)

        # When it is to be divided
        with pytest.raises(ActionError, match=r"^inventory\.queue: not empty .* workers running"):
            divide(settings, 4)

        # Then nothing has changed, and the relay continues
        assert _objects(broker) == before
        record(outbox, event(CREATED))
        eventually(lambda: require_all_sent(outbox))
    assert broker.depth(INVENTORY.queue) == 2


def test_a_failure_restores_the_previous_parts(
    broker: Vhost,
    publisher_of: PublisherOf,
    outbox: Sessions,
    settings: AdministratorSettings,
    orders_divided: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a queue in three parts, and a broker that fails during the change to one
    divide(settings, 3)
    before = _objects(broker)
    send = Management.send
    failures = iter([ActionError("the broker has gone")])

    def fail_once(self: Management, method: str, *path: str, **options: object) -> object:
        if method == "DELETE" and path[0] == "queues" and (failure := next(failures, None)):
            raise failure
        return send(self, method, *path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Management, "send", fail_once)

    # When it is changed
    with pytest.raises(ActionError, match="has gone; the previous parts are restored"):
        divide(settings, 1)

    # Then the three parts are restored, and events reach one of them
    assert _objects(broker) == before
    with draining(Relay(outbox, publisher_of())):
        record(outbox, event(CREATED))
        eventually(lambda: require_all_sent(outbox))
    assert sum(broker.depth(queue) for queue in PARTS[:3]) == 1


def test_relays_that_do_not_release_the_outbox_stop_the_change(
    broker: Vhost,
    outbox: Sessions,
    settings: AdministratorSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a relay that hangs
    monkeypatch.setattr(scale_module, "HOLD_PATIENCE", 1.0)
    before = _objects(broker)
    with transaction(outbox) as session:
        session.execute(text("SELECT pg_advisory_xact_lock_shared(hashtext('outbox'))"))

        # Then the change fails
        with pytest.raises(ActionError, match="relays of order have not released its outbox"):
            divide(settings, 4)
    assert _objects(broker) == before


def test_a_part_with_messages_is_not_deleted(
    broker: Vhost, settings: AdministratorSettings, orders_divided: None
) -> None:
    # Given a message that arrives in a part after it was found to be empty
    divide(settings, 2)
    before = _objects(broker)

    def put(*_: object) -> None:
        broker.publish(b"[]", exchange="", routing_key=PARTS[1], headers={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling.Scaling, "await_empty", put)

        # Then it is not deleted with the part
        with pytest.raises(ActionError, match=r"queue\.1 has 1 messages and is not deleted"):
            divide(settings, 1)
    assert _objects(broker) == before
    assert broker.depth(PARTS[1]) == 1


def test_a_broker_that_differs_from_the_code_is_not_scaled(
    broker: Vhost, settings: AdministratorSettings
) -> None:
    # Given a queue with other arguments
    path = f"/queues/{broker.name}/{ORDER.parking_lot}"
    broker.request("DELETE", path)
    broker.request("PUT", path, json={"durable": True, "arguments": {"x-queue-type": "quorum"}})

    # Then nothing is changed
    with pytest.raises(ActionError, match=r"differs from the code: queue order\.dlq: arguments"):
        divide(settings, 2)


def test_an_interrupted_change_is_completed_by_another_run(
    broker: Vhost,
    settings: AdministratorSettings,
    orders_divided: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a command that was killed when old and new routes existed
    class Killed(BaseException):
        pass

    send = Management.send

    def die(self: Management, method: str, *path: str, **options: object) -> object:
        if method == "DELETE":
            raise Killed
        return send(self, method, *path, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Management, "send", die)
        divide(settings, 4)

    # When it runs again
    assert divide(settings, 4) == 4

    # Then the broker matches the code
    now = settings.model_copy(update={"parts": {"inventory": 4}})
    assert topology.plan(now).differences == ()


def _require_empty(broker: Vhost, queues: tuple[str, ...]) -> None:
    assert [broker.depth(queue) for queue in queues] == [0] * len(queues)


def _objects(broker: Vhost) -> set[tuple[str, ...]]:
    """Return the inventory's queues, routes and permissions."""
    routes = broker.request("GET", f"/bindings/{broker.name}").json()
    queues = broker.request("GET", f"/queues/{broker.name}").json()
    permission = broker.request("GET", f"/permissions/{broker.name}/inventory").json()
    return {
        *(("queue", queue["name"]) for queue in queues),
        *(
            ("route", route["source"], route["destination"], route["routing_key"])
            for route in routes
            if route["source"] in (EVENTS.name, INVENTORY.part_exchange)
        ),
        ("reads", permission["read"]),
    }
