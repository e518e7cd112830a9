"""A change of the number of parts that fails, or is interrupted, loses nothing."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from common.kombu_topology import EVENTS, INVENTORY, ORDER
from console.actions import topology
from console.broker.management import Management
from console.errors import ActionError
from console.scaling import parts as scaling
from console.scaling import scale as scale_module
from eventbus.database.db import Sessions, transaction
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import CREATED, event, record
from testkit.eventually import becomes, eventually
from testkit.processes.publishers import PublisherOf
from testkit.processes.relays import draining
from testkit.servers.scaling import AdministratorSettings
from testkit.servers.vhosts import Vhost
from testkit.system.scaling import PARTS, divide, inventory_objects, require_all_sent


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
        before = inventory_objects(broker)
        monkeypatch.setattr(scaling, "PATIENCE", 8.0)

        # When it is to be divided
        with pytest.raises(ActionError, match=r"^inventory\.queue: never empty .* workers running"):
            divide(settings, 4)

        # Then nothing has changed, and the relay continues
        assert inventory_objects(broker) == before
        record(outbox, event(CREATED))
        eventually(lambda: require_all_sent(outbox))
    becomes(lambda: broker.depth(INVENTORY.queue), 2)


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
    before = inventory_objects(broker)
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
    assert inventory_objects(broker) == before
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
    before = inventory_objects(broker)
    with transaction(outbox) as session:
        session.execute(text("SELECT pg_advisory_xact_lock_shared(hashtext('outbox'))"))

        # Then the change fails
        with pytest.raises(ActionError, match="relays of order have not released its outbox"):
            divide(settings, 4)
    assert inventory_objects(broker) == before


def test_a_part_with_messages_is_not_deleted(
    broker: Vhost, settings: AdministratorSettings, orders_divided: None
) -> None:
    # Given a message that arrives in a part after it was found to be empty
    divide(settings, 2)
    before = inventory_objects(broker)

    def put(*_: object) -> None:
        broker.publish(b"[]", exchange="", routing_key=PARTS[1], headers={})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling.Scaling, "await_empty", put)

        # Then it is not deleted with the part
        with pytest.raises(ActionError, match=r"queue\.1 has 1 messages and is not deleted"):
            divide(settings, 1)
    assert inventory_objects(broker) == before
    becomes(lambda: broker.depth(PARTS[1]), 1)


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


def test_a_second_command_changes_nothing_meanwhile(
    settings: AdministratorSettings, orders_divided: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given that a command waits for the queues of the order service to be empty
    await_empty = scaling.Scaling.await_empty
    others = iter([(INVENTORY, 4), (ORDER, 4)])

    def others_first(self: scaling.Scaling, queues: Sequence[str]) -> None:
        for service, parts in others:
            # When another one is to change a number of parts
            with pytest.raises(ActionError, match="another command changes a number of parts"):
                divide(settings, parts, service)
        await_empty(self, queues)

    monkeypatch.setattr(scaling.Scaling, "await_empty", others_first)
    assert divide(settings, 2, ORDER) == 1

    # Then only the first has an effect, and the other can follow
    numbers = {"order": 2}
    assert topology.plan(settings.model_copy(update={"parts": numbers})).differences == ()
    assert divide(settings, 4) == 1
    numbers["inventory"] = 4
    assert topology.plan(settings.model_copy(update={"parts": numbers})).differences == ()


def test_a_change_does_not_touch_the_objects_of_other_services(
    settings: AdministratorSettings, orders_divided: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given that the inventory's queue is divided while that of the order service is changed, by a
    # program without the lock
    await_empty = scaling.Scaling.await_empty
    others = iter([(INVENTORY, 4)])

    def other_first(self: scaling.Scaling, queues: Sequence[str]) -> None:
        for service, parts in others:
            with monkeypatch.context() as patch:
                patch.setattr(scale_module, "_ACQUIRE", "SELECT true")
                divide(settings, parts, service)
        await_empty(self, queues)

    monkeypatch.setattr(scaling.Scaling, "await_empty", other_first)

    # When the change continues
    divide(settings, 2, ORDER)

    # Then each event has one route
    now = settings.model_copy(update={"parts": {"inventory": 4, "order": 2}})
    assert topology.plan(now).differences == ()


def test_a_second_route_is_reported_and_removed(
    broker: Vhost, settings: AdministratorSettings, orders_divided: None
) -> None:
    # Given a direct route to a queue in addition to its parts
    divide(settings, 2)
    now = settings.model_copy(update={"parts": {"inventory": 2}})
    path = f"/bindings/{broker.name}/e/{EVENTS.name}/q/{INVENTORY.queue}"
    broker.request("POST", path, json={"routing_key": "order.created"})

    # Then the plan reports it, and `apply` leaves it
    (planned,) = topology.plan(now).differences
    assert str(planned) == (
        "binding orders.topic -[order.created]-> inventory.queue: a second route of its events;"
        " orderctl topology scale inventory PARTS removes it"
    )
    assert not planned.is_harmless
    assert [difference.outcome for difference in topology.apply(now)] == ["left"]

    # And another change of the parts removes it
    divide(settings, 2)
    assert topology.plan(now).differences == ()
