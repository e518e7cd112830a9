"""A move from one version of an event to the next, while orders are processed.

During the first half, the notification service runs its earlier code, while the inventory consumes
only the new version.
"""

from datetime import timedelta

import pytest

from common.kombu_topology import FRAUD, INVENTORY, NOTIFICATION, ORDER, STREAM
from console.actions import topology
from console.actions.retirement import uses
from testkit.eventually import becomes, eventually
from testkit.processes.customers import Customers
from testkit.processes.stack import Stack
from testkit.servers.administration import administration
from testkit.servers.bindings import bind, unbind
from testkit.versions.migrated import MIGRATED, use_services
from testkit.versions.retirement import AdministratorSettings

V1, V2 = "order.created", "order.created.v2"

#: Orders per second, and the minimum number of orders in each step of the move.
RATE = 12
ORDERS = 12

#: The log message about a published version without a consumer.
UNCONSUMED = "published event versions have no consumer"


def publish(stack: Stack, program: str, versions: str) -> None:
    """Restart a process of the order service with these published versions."""
    stack.extra["ORDER_CREATED_VERSIONS"] = versions
    stack.shut_down(program)
    stack.start(program)


def handled_as(stack: Stack, service: str, orders: list[str]) -> set[str]:
    """Wait until a service has handled these orders, and return the versions of their events."""

    def handled() -> list[str]:
        types = stack.execute(
            service,
            "SELECT type FROM inbox"
            " WHERE type LIKE 'order.created%' AND subject::text = ANY (:orders)",
            orders=orders,
        )
        assert len(types) == len(orders)
        return types

    return set(eventually(handled))


def test_services_move_to_a_new_version_while_orders_flow(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a system without a consumer of the second version, which one consumer cannot decode
    stack.stock(TEA=100_000)
    for queue in (INVENTORY.queue, NOTIFICATION.queue, FRAUD.queue, STREAM):
        unbind(stack.vhost, queue, V2)
    unbind(stack.vhost, FRAUD.queue, V1)  # not part of this move
    stack.start("api", "order-worker", "order-relay", "inventory-worker", "inventory-relay", "beat")
    stack.start(
        "notification-worker", module="testkit.programs.before_versions.notification_worker"
    )

    # And customers who retry while the API is restarted
    address = stack.url.removeprefix("http://")
    customers = Customers(stack, RATE, [address], persistent=True)

    with customers.ordering():
        orders = customers.place_more(ORDERS)
        assert handled_as(stack, "inventory", orders) == {V1}
        assert handled_as(stack, "notification", orders) == {V1}

        # When one consumer is bound to both versions, and both are published
        bind(stack.vhost, INVENTORY.queue, V2)
        bind(stack.vhost, STREAM, V2)
        customers.place_more(ORDERS)
        publish(stack, "order-relay", "v1,v2")
        orders = customers.place_more(ORDERS)
        # Then that consumer handles either version, and each version has a consumer
        assert handled_as(stack, "inventory", orders) <= {V1, V2}
        assert handled_as(stack, "notification", orders) == {V1}
        assert UNCONSUMED not in stack.log("order-relay")

        # When it is bound to the new version only, and the other consumer to the old one only
        unbind(stack.vhost, INVENTORY.queue, V1)
        orders = customers.place_more(ORDERS)
        assert handled_as(stack, "inventory", orders) == {V2}
        assert handled_as(stack, "notification", orders) == {V1}

        # When the other consumer is upgraded, and moves as well
        stack.start("notification-worker", alias="new-notification-worker")
        stack.shut_down("notification-worker")
        customers.place_more(ORDERS)
        bind(stack.vhost, NOTIFICATION.queue, V2)
        customers.place_more(ORDERS)
        unbind(stack.vhost, NOTIFICATION.queue, V1)
        unbind(stack.vhost, STREAM, V1)
        # Then the old version has no consumer, which is logged, and no event waits for one
        orders = customers.place_more(ORDERS)
        eventually(lambda: assert_unconsumed_logged(stack))
        assert handled_as(stack, "notification", orders) == {V2}

        # When the old version is neither published nor permitted
        publish(stack, "order-relay", "v2")
        publish(stack, "api", "v2")
        use_services(monkeypatch)
        list(topology.apply(stack.broker_admin, prune=True))
        orders = customers.place_more(ORDERS)
        assert handled_as(stack, "inventory", orders) == {V2}
        assert handled_as(stack, "notification", orders) == {V2}

        # Then only history uses it, and after the deletion of the stream nothing
        becomes(lambda: users(stack), {("stream", STREAM)})
        stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{STREAM}")
        list(topology.apply(stack.broker_admin))
        becomes(lambda: users(stack), set())
        customers.place_more(ORDERS)

    assert customers.failures == []
    assert_each_order_had_one_effect(stack, list(customers.placed))


def users(stack: Stack) -> set[tuple[str, str]]:
    names = {name: str(database.url.database) for name, database in stack.databases.items()}
    settings = AdministratorSettings(**administration(stack.servers, stack.vhost, names))
    findings = uses(settings, V1, within=timedelta(seconds=1), services=MIGRATED)
    return {(use.kind, use.place) for use in findings.uses}


def assert_each_order_had_one_effect(stack: Stack, placed: list[str]) -> None:
    assert len(placed) == len(set(placed))

    def all_decided() -> None:
        confirmed = stack.execute("order", "SELECT id::text FROM orders WHERE status = 'CONFIRMED'")
        assert sorted(confirmed) == sorted(placed)

    # No order is lost,
    eventually(all_decided)
    assert set(handled_as(stack, "notification", placed)) == {V1, V2}
    mails = "SELECT order_id::text FROM notifications WHERE kind = 'received'"
    becomes(lambda: sorted(stack.execute("notification", mails)), sorted(placed))
    # duplicated,
    assert stack.reserved("TEA") == len(placed)
    for service in ("inventory", "notification"):
        events = stack.execute(
            service, "SELECT subject::text FROM inbox WHERE type LIKE 'order.created%'"
        )
        assert sorted(events) == sorted(placed)
        # or delayed.
        assert set(stack.execute(service, "SELECT attempts FROM inbox")) == {1}
    assert stack.execute("order", "SELECT id FROM outbox WHERE unroutable_reason IS NOT NULL") == []
    assert '"message":"event unroutable"' not in stack.log("order-relay")
    for service in (ORDER, INVENTORY, NOTIFICATION):
        assert stack.vhost.depth(service.parking_lot) == 0


def assert_unconsumed_logged(stack: Stack) -> None:
    assert UNCONSUMED in stack.log("order-relay")
