"""The exchanges, queues and bindings of the topology, as derived from the services."""

import re
from typing import Any

import pytest

from common.kombu_topology import (
    BUS,
    CONSUMERS,
    DEAD_LETTERS,
    EVENTS,
    FRAUD,
    INVENTORY,
    NOTIFICATION,
    ORDER,
    SERVICES,
    STREAM,
    TICKS,
    topology,
)
from eventbus.topology.limits import DELIVERY_LIMIT, UNLIMITED
from eventbus.topology.objects import Binding, Topology, event_queue
from eventbus.topology.retry_schedule import RETRY_TIERS
from eventbus.topology.service import MISSED, PARKED, Service
from eventbus.topology.users import TASK_EVENTS, User


def queue(shop: Topology, name: str) -> dict[str, Any]:
    """Return the arguments of a queue."""
    (declared,) = (q for q in shop.queues if q.name == name)
    arguments: dict[str, Any] = declared.queue_arguments
    return arguments


def bindings_of(shop: Topology, queue: str) -> set[tuple[str, str]]:
    return {(b.exchange, b.routing_key) for b in shop.bindings if b.queue == queue}


def test_every_object_is_durable_and_never_declared_by_a_client(shop: Topology) -> None:
    for thing in (*shop.exchanges, *shop.queues):
        assert thing.durable
        assert not thing.auto_delete
        assert thing.no_declare


def test_every_queue_has_a_type(shop: Topology) -> None:
    # Celery sets the prefetch count of quorum queues only if the argument is present.
    for declared in shop.queues:
        expected = "stream" if declared.name == STREAM else "quorum"
        assert declared.queue_arguments["x-queue-type"] == expected


def test_every_binding_joins_known_objects(shop: Topology) -> None:
    exchanges = {exchange.name for exchange in shop.exchanges}
    queues = {q.name for q in shop.queues}

    # Monitoring programs bind their own queues.
    assert {b.exchange for b in shop.bindings} == exchanges - {TASK_EVENTS.name}
    assert {b.queue for b in shop.bindings} == queues


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_an_event_queue_has_limits_and_no_expiry(shop: Topology, service: Service) -> None:
    arguments = queue(shop, service.queue)

    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-delivery-limit"] == DELIVERY_LIMIT > 0
    assert arguments["x-dead-letter-routing-key"] == service.name
    assert arguments["x-max-length"] > 0
    assert "x-message-ttl" not in arguments
    assert "x-expires" not in arguments


@pytest.mark.parametrize("service", [ORDER, INVENTORY], ids=lambda s: s.name)
def test_the_queue_of_an_essential_service_loses_no_message(
    shop: Topology, service: Service
) -> None:
    arguments = queue(shop, service.queue)

    assert arguments["x-dead-letter-exchange"] == DEAD_LETTERS.name
    # At-least-once dead-lettering requires reject-publish; otherwise it is at most once.
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"


#: A service that is added later. It declares nothing about the limit of its queue.
GIFTS = Service(name="gifts", package="gifts_worker", bus=BUS, consumes=("order.created",))


@pytest.mark.parametrize("service", [NOTIFICATION, FRAUD, GIFTS], ids=lambda s: s.name)
def test_the_queue_of_another_service_drops_its_oldest_message(service: Service) -> None:
    # Given the topology with a service that is added later
    shop = topology((*SERVICES, GIFTS))
    arguments = queue(shop, service.queue)
    (exchange,) = (e for e in shop.exchanges if e.name == service.overflow)

    # Then the queue drops its oldest message, and a marker records the drop
    assert arguments["x-overflow"] == "drop-head"
    assert "x-dead-letter-strategy" not in arguments
    assert arguments["x-dead-letter-exchange"] == service.overflow
    assert exchange.type == "headers"
    assert [b for b in shop.bindings if b.exchange == service.overflow] == [
        Binding(
            exchange=service.overflow,
            queue=service.overflow,
            headers=(("x-first-death-reason", "maxlen"),),
        )
    ]
    # RabbitMQ 4 would drop a marker that was delivered to killed processes too often.
    assert queue(shop, service.overflow) == {
        "x-queue-type": "quorum",
        "x-max-length": 1,
        "x-delivery-limit": UNLIMITED,
    }
    # And all other dead letters go to the parking lot, as from every queue
    assert exchange.arguments == {"alternate-exchange": DEAD_LETTERS.name}
    assert (DEAD_LETTERS.name, service.name) in bindings_of(shop, service.parking_lot)


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_an_event_queue_gets_exactly_the_consumed_types(shop: Topology, service: Service) -> None:
    copies = set() if service.essential else {(service.retry_exchange, MISSED)}
    assert (
        bindings_of(shop, service.queue)
        == {(EVENTS.name, t) for t in service.consumed_types} | copies
    )


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_worker_consumes_from_the_declared_queue(shop: Topology, service: Service) -> None:
    consumed = event_queue(service)

    assert consumed.name == service.queue
    assert consumed.queue_arguments == queue(shop, service.queue)


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_parking_lot_has_no_limit(shop: Topology, service: Service) -> None:
    assert queue(shop, service.parking_lot) == {
        "x-queue-type": "quorum",
        "x-delivery-limit": UNLIMITED,
    }
    assert bindings_of(shop, service.parking_lot) == {
        (DEAD_LETTERS.name, service.name),
        (service.retry_exchange, PARKED),
    }


@pytest.mark.parametrize("tiers", [RETRY_TIERS, (0.4, 1.6)])
@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_each_retry_tier_leads_back_to_its_service_only(
    service: Service, tiers: tuple[float, ...]
) -> None:
    # Given the topology with these tiers
    shop = topology(retry_tiers=tiers)
    names = {f"{service.retry_exchange}.{seconds:g}s": seconds for seconds in tiers}

    # Then each tier has one queue, which leads back to the service
    assert names.keys() == {
        q.name for q in shop.queues if q.name.startswith(f"{service.retry_exchange}.")
    }
    for name, seconds in names.items():
        # The default exchange routes by the queue's name, without a binding.
        assert queue(shop, name) == {
            "x-queue-type": "quorum",
            "x-message-ttl": seconds * 1000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": service.queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        assert bindings_of(shop, name) == {(service.retry_exchange, f"{seconds:g}s")}


def test_retry_tiers_ascend() -> None:
    assert list(RETRY_TIERS) == sorted(set(RETRY_TIERS))


def test_a_queue_of_ticks_keeps_only_the_latest(shop: Topology) -> None:
    for service in SERVICES:
        for tick in service.ticks:
            name = service.tick_queue(tick)
            assert queue(shop, name) == {
                "x-queue-type": "quorum",
                "x-max-length": 1,
                "x-message-ttl": 10_000,
            }
            assert bindings_of(shop, name) == {(TICKS.name, name)}


def test_a_new_service_changes_no_other_object(shop: Topology) -> None:
    # When a service is added
    grown = topology((*SERVICES, GIFTS))

    # Then only objects of the new service are added
    def names(topology: Topology) -> set[Any]:
        queues: set[Any] = {(q.name, str(q.queue_arguments)) for q in topology.queues}
        exchanges = {exchange.name for exchange in topology.exchanges}
        return queues | exchanges | set(topology.bindings) | set(topology.users)

    assert names(shop) - names(grown) == parking_lot_readers(shop)
    new = names(grown) - names(shop) - parking_lot_readers(grown)
    assert {
        "gifts.retry",
        Binding(exchange=EVENTS.name, queue="gifts.queue", routing_key="order.created"),
        Binding(exchange=EVENTS.name, queue="gifts.queue", routing_key="order.created.v2"),
    } < new
    for thing in new:
        name = thing[0] if isinstance(thing, tuple) else getattr(thing, "queue", None) or thing
        assert str(getattr(name, "name", name)).startswith("gifts")


def parking_lot_readers(shop: Topology) -> set[User]:
    """Return the users that can read every parking lot."""
    return {user for user in shop.users if user.name == "console"}


def test_a_service_that_only_publishes_has_no_event_queue() -> None:
    feed = Service(
        name="feed", package="feed", bus=BUS, publishes=("order.created",), ticks=("relay",)
    )

    alone = topology((feed,))

    assert [q.name for q in alone.queues] == ["feed.relay", STREAM]
    assert [b.queue for b in alone.bindings] == ["feed.relay"]


def test_the_stream_keeps_exactly_the_consumed_types(shop: Topology) -> None:
    consumed = {event_type for service in SERVICES for event_type in service.consumed_types}

    assert bindings_of(shop, STREAM) == {(EVENTS.name, t) for t in consumed}


def test_a_type_without_consumers_is_unroutable() -> None:
    # Given a service that publishes a type without consumers
    feed = Service(
        name="feed", package="feed", bus=BUS, publishes=("price.changed",), ticks=("relay",)
    )

    # When it is added
    grown = topology((*SERVICES, feed))

    # Then no binding matches the type
    keys = {b.routing_key for b in grown.bindings if b.exchange == EVENTS.name}
    assert keys
    assert not any(re.search("[#*]", key) for key in keys)
    assert "price.changed" not in keys


def test_the_stream_is_limited_in_bytes_and_in_age(shop: Topology) -> None:
    assert queue(shop, STREAM) == {
        "x-queue-type": "stream",
        "x-max-age": "14D",
        "x-max-length-bytes": 10_000_000_000,
        "x-stream-max-segment-size-bytes": 20_000_000,
    }
