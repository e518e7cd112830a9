"""Each user of the broker has exactly the permissions that its programs need."""

import re
from uuid import UUID

import pytest

from common.events import EVENTS as CONTRACTS
from common.kombu_topology import (
    ANALYTICS,
    CONSUMERS,
    EVENTS,
    FRAUD,
    NOTIFICATION,
    SERVICES,
    STREAM,
    TICKS,
)
from eventbus.topology.objects import Topology
from eventbus.topology.retry_schedule import RETRY_TIERS
from eventbus.topology.users import TASK_EVENTS


def allowed(pattern: str, names: set[str]) -> set[str]:
    # RabbitMQ searches for the pattern anywhere in the name.
    return {name for name in names if re.search(pattern, name)}


def every_name(shop: Topology) -> set[str]:
    """Return all existing names, and similar names that do not exist."""
    names = {thing.name for thing in (*shop.exchanges, *shop.queues, *shop.users)}
    names |= {*CONTRACTS, MONITOR_QUEUE}
    near = {
        near
        for name in names
        for near in (f"x{name}", f"{name}x", name.replace(".", "x"), name.upper())
    }
    foreign = {"amq.default", "amq.topic", "amq.direct", "amq.fanout", "orders", "queue", "#"}
    return names | (near - names) | foreign


#: The name of a queue that Flower or the exporter declares for itself.
MONITOR_QUEUE = f"{TASK_EVENTS.name}.{UUID(int=7)}"

#: For each user: the objects that it may write, those that it may read, and the types of events
#: that it may publish.
PERMISSIONS = {
    **{
        service.name: (
            ({service.retry_exchange, TASK_EVENTS.name} if service.consumes else set())
            | ({EVENTS.name} if service.publishes else set()),
            ({service.queue} if service.consumes else set())
            | ({STREAM} if service is ANALYTICS else set())
            | ({STREAM, service.overflow} if service in (NOTIFICATION, FRAUD) else set())
            | {service.tick_queue(tick) for tick in service.ticks},
            set(service.published_types),
        )
        for service in SERVICES
    },
    "scheduler": ({TICKS.name}, set(), set()),
    "monitor": ({MONITOR_QUEUE}, {MONITOR_QUEUE, TASK_EVENTS.name}, set()),
    # RabbitMQ's name of the default exchange.
    "console": (
        {"amq.default"},
        {
            queue
            for service in CONSUMERS
            for queue in (service.parking_lot, *map(service.retry_queue, RETRY_TIERS))
        },
        set(),
    ),
    "replayer": ({"amq.default"}, {STREAM}, set()),
}


def test_the_topology_has_no_other_users(shop: Topology) -> None:
    assert {user.name for user in shop.users} == set(PERMISSIONS)


@pytest.mark.parametrize("name", PERMISSIONS)
def test_a_user_has_exactly_the_permissions_that_it_needs(shop: Topology, name: str) -> None:
    # Given the user, and names that exist or nearly exist
    (user,) = (user for user in shop.users if user.name == name)
    writes, reads, topics = PERMISSIONS[name]
    names = every_name(shop)

    # Then its patterns match exactly these names
    assert allowed(user.configure, names) == ({MONITOR_QUEUE} if name == "monitor" else set())
    assert allowed(user.write, names) == writes
    assert allowed(user.read, names) == reads
    assert allowed(user.topics, names) == topics


def test_only_monitoring_users_have_a_tag(shop: Topology) -> None:
    assert {user.name: user.tags for user in shop.users if user.tags} == {
        "monitor": ("monitoring",),
        "console": ("monitoring",),
    }
