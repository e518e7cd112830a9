"""A move from one version of an event to the next, while orders flow: see docs/events.md.

The notification service runs the code of before for half of the way, beside an inventory that hears
the new version only.
"""

from datetime import timedelta

import pytest

from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION, ORDER, STREAM
from console.actions import topology
from console.actions.retirement import uses
from testkit.data.migrated import MIGRATED, services_are
from testkit.data.retirement import AdministratorSettings
from testkit.eventually import eventually
from testkit.processes.customers import Customers
from testkit.processes.stack import Stack
from testkit.servers.bindings import bind, unbind

V1, V2 = "order.created", "order.created.v2"

#: Orders a second, and those that are placed in each step of the move, at least.
RATE = 12
ORDERS = 12

#: What a relay says of a version that goes nowhere.
UNCONSUMED = "published event versions have no consumer"


def publish(stack: Stack, program: str, versions: str) -> None:
    """Replace a process of the order service by one that is set to these versions."""
    stack.extra["ORDER_CREATED_VERSIONS"] = versions
    stack.shut_down(program)
    stack.start(program)


def handled_as(stack: Stack, service: str, orders: list[str]) -> set[str]:
    """Wait until a service has handled these orders; returns in which versions they came."""

    def types() -> list[str]:
        found = stack.execute(
            service,
            "SELECT type FROM inbox"
            " WHERE type LIKE 'order.created%' AND subject::text = ANY (:orders)",
            orders=orders,
        )
        assert len(found) == len(orders)
        return found

    return set(eventually(types))


def test_consumers_and_publisher_move_to_a_new_version_while_orders_flow(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a system in which nobody hears the second version, and a consumer that does not know it
    stack.stock(TEA=100_000)
    for queue in (INVENTORY.queue, NOTIFICATION.queue, FRAUD.queue, STREAM):
        unbind(stack.vhost, queue, V2)
    unbind(stack.vhost, FRAUD.queue, V1)  # which has no part in this
    stack.start("api", "order-worker", "order-relay", "inventory-worker", "inventory-relay", "beat")
    stack.start(
        "notification-worker", module="testkit.programs.before_versions.notification_worker"
    )

    # and customers who do not mind that the API is replaced
    address = stack.url.removeprefix("http://")
    customers = Customers(stack, RATE, [address], persistent=True)

    with customers.ordering():
        orders = customers.go_on(ORDERS)
        assert handled_as(stack, "inventory", orders) == {V1}
        assert handled_as(stack, "notification", orders) == {V1}

        # When one consumer is bound to both, and both are published
        bind(stack.vhost, INVENTORY.queue, V2)
        bind(stack.vhost, STREAM, V2)
        customers.go_on(ORDERS)
        publish(stack, "order-relay", "v1,v2")
        orders = customers.go_on(ORDERS)
        # Then either version is the first, and each has somebody who hears it
        assert handled_as(stack, "inventory", orders) <= {V1, V2}
        assert handled_as(stack, "notification", orders) == {V1}
        assert UNCONSUMED not in stack.log("order-relay")

        # When it hears the new one only, beside one that hears the old one only
        unbind(stack.vhost, INVENTORY.queue, V1)
        orders = customers.go_on(ORDERS)
        assert handled_as(stack, "inventory", orders) == {V2}
        assert handled_as(stack, "notification", orders) == {V1}

        # When the other one's code is replaced, and follows
        stack.start("notification-worker", alias="new-notification-worker")
        stack.shut_down("notification-worker")
        customers.go_on(ORDERS)
        bind(stack.vhost, NOTIFICATION.queue, V2)
        customers.go_on(ORDERS)
        unbind(stack.vhost, NOTIFICATION.queue, V1)
        unbind(stack.vhost, STREAM, V1)
        # Then nobody hears what is still published, which is told, and nothing waits for it
        orders = customers.go_on(ORDERS)
        eventually(lambda: assert_told(stack))
        assert handled_as(stack, "notification", orders) == {V2}

        # When the old one is no longer published, nor allowed
        publish(stack, "order-relay", "v2")
        publish(stack, "api", "v2")
        services_are(monkeypatch)
        list(topology.apply(stack.broker_admin, prune=True))
        orders = customers.go_on(ORDERS)
        assert handled_as(stack, "inventory", orders) == {V2}
        assert handled_as(stack, "notification", orders) == {V2}

        # Then nothing uses it any more but history, and then nothing
        eventually(lambda: assert_equal(users(stack), {("stream", STREAM)}))
        stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{STREAM}")
        list(topology.apply(stack.broker_admin))
        eventually(lambda: assert_equal(users(stack), set()))
        customers.go_on(ORDERS)

    assert customers.failures == []
    assert_each_order_had_one_effect(stack, list(customers.placed))


def users(stack: Stack) -> set[tuple[str, str]]:
    settings = AdministratorSettings(
        **stack.broker_admin.model_dump(),
        database_port=stack.servers.postgres_port,
        database_ca_file=stack.servers.ca_file,
        names={name: str(database.url.database) for name, database in stack.databases.items()},
        postgres_password=stack.servers.postgres_password,
    )
    found = uses(settings, V1, within=timedelta(seconds=1), services=MIGRATED)
    return {(use.kind, use.place) for use in found.uses}


def assert_each_order_had_one_effect(stack: Stack, placed: list[str]) -> None:
    assert len(placed) == len(set(placed))

    def all_decided() -> None:
        confirmed = stack.execute("order", "SELECT id::text FROM orders WHERE status = 'CONFIRMED'")
        assert sorted(confirmed) == sorted(placed)

    # nothing is lost
    eventually(all_decided)
    assert set(handled_as(stack, "notification", placed)) == {V1, V2}
    mails = "SELECT order_id::text FROM notifications WHERE kind = 'received'"
    eventually(lambda: assert_equal(sorted(stack.execute("notification", mails)), sorted(placed)))
    # or doubled
    assert stack.reserved("TEA") == len(placed)
    for service in ("inventory", "notification"):
        events = stack.execute(
            service, "SELECT subject::text FROM inbox WHERE type LIKE 'order.created%'"
        )
        assert sorted(events) == sorted(placed)
        # or delayed
        assert set(stack.execute(service, "SELECT attempts FROM inbox")) == {1}
    assert stack.execute("order", "SELECT id FROM outbox WHERE unroutable_reason IS NOT NULL") == []
    assert '"message":"event unroutable"' not in stack.log("order-relay")
    for service in (ORDER, INVENTORY, NOTIFICATION):
        assert stack.vhost.depth(service.parking_lot) == 0


def assert_told(stack: Stack) -> None:
    assert UNCONSUMED in stack.log("order-relay")


def assert_equal(found: object, expected: object) -> None:
    assert found == expected
