"""A change of the number of parts that fails, or is interrupted, loses nothing."""

import pytest
from sqlalchemy import text

from common.kombu_topology import INVENTORY, ORDER
from console.actions import topology
from console.broker.management import Management
from console.errors import ActionError
from console.scaling import parts as scaling
from console.scaling import scale as scale_module
from eventbus.database.db import Sessions, transaction
from eventbus.outbox.relay import Relay
from testkit.data.outboxes import CREATED, event, record
from testkit.eventually import eventually
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
