"""The broker objects of a system, derived from its services: exchanges, queues and bindings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kombu.entity import Exchange, Queue

from eventbus.topology.limits import (
    DELIVERY_LIMIT,
    QUEUE_LIMIT,
    RETRY_TIERS,
    STREAM_AGE,
    STREAM_BYTES,
    STREAM_SEGMENT_BYTES,
    UNLIMITED,
)
from eventbus.topology.service import MISSED, PARKED, Bus, Service, tier_key
from eventbus.topology.users import TASK_EVENTS, User, users


@dataclass(frozen=True, kw_only=True)
class Binding:
    """Messages to `exchange` with this routing key go to `queue`.

    At a headers exchange, messages with all of `headers` do, whatever their routing key.
    """

    exchange: str
    queue: str
    routing_key: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self) -> dict[str, str]:
        """The binding's arguments; headers that start with `x-` count, unlike by default."""
        return {"x-match": "all-with-x", **dict(self.headers)} if self.headers else {}


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What the broker must hold, neither more nor less."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    users: tuple[User, ...] = field(default=())


def topology(
    bus: Bus, services: Sequence[Service], retry_tiers: Sequence[float] = RETRY_TIERS
) -> Topology:
    """Return the topology of a system with these services and retry tiers (seconds)."""
    return Topology(
        exchanges=(
            bus.events,
            bus.dead_letters,
            bus.ticks,
            TASK_EVENTS,
            *(_retry_exchange(s) for s in services if s.consumes),
            *(_overflow_exchange(s) for s in services if s.can_overflow),
        ),
        queues=(*(q for s in services for q in _queues(s, retry_tiers)), stream(bus)),
        bindings=(
            *(b for s in services for b in _bindings(s, retry_tiers)),
            *_stream_bindings(bus, services),
        ),
        users=users(bus, services),
    )


def event_queue(service: Service) -> Queue:
    """Return the queue that a service consumes its events from.

    A message that is rejected, or that killed its worker too often, goes to the parking lot. From
    the queue of an essential service it goes at least once: the broker keeps it until the parking
    lot has confirmed it, which needs `reject-publish`. A queue that can overflow drops its oldest
    message and refuses none, so RabbitMQ dead-letters from it at most once.
    """
    if service.can_overflow:
        arguments: dict[str, object] = {
            "x-dead-letter-exchange": service.overflow,
            "x-dead-letter-routing-key": service.name,
            "x-overflow": "drop-head",
        }
    else:
        arguments = _dead_letter_to(service.bus.dead_letters.name, service.name)
    limits = {"x-delivery-limit": DELIVERY_LIMIT, "x-max-length": QUEUE_LIMIT}
    return _quorum(service, service.queue, arguments | limits)


def overflow_queue(service: Service) -> Queue:
    """Return the queue that records that the service's queue dropped events: it keeps the last.

    The newest and not the oldest: a quorum queue does not refuse what is dead-lettered at most
    once, whatever its `x-overflow`. A message that a process takes and does not acknowledge counts
    as a delivery.
    """
    return _quorum(service, service.overflow, {"x-max-length": 1, "x-delivery-limit": UNLIMITED})


def tick_queue(service: Service, tick: str) -> Queue:
    """Return the queue of one kind of tick: of several that wait, one is enough.

    A tick may be lost, and the queue may not: without it nothing leaves an outbox. A classic queue
    is gone for as long as its node is.
    """
    return _quorum(service, service.tick_queue(tick), {"x-max-length": 1, "x-message-ttl": 10_000})


def stream(bus: Bus) -> Queue:
    """Return the stream of past events."""
    arguments = {
        "x-queue-type": "stream",
        "x-max-age": f"{STREAM_AGE.days}D",
        "x-max-length-bytes": STREAM_BYTES,
        "x-stream-max-segment-size-bytes": STREAM_SEGMENT_BYTES,
    }
    return Queue(bus.stream, bus.events, queue_arguments=arguments, no_declare=True)


def _queues(service: Service, retry_tiers: Sequence[float]) -> list[Queue]:
    # Nothing in a parking lot expires and nothing limits it: to drop from it is to lose an event.
    parking_lot = _quorum(service, service.parking_lot, {"x-delivery-limit": UNLIMITED})
    events = [event_queue(service), parking_lot] if service.consumes else []
    tiers = retry_tiers if service.consumes else ()
    return [
        *events,
        *([overflow_queue(service)] if service.can_overflow else []),
        *(_retry_queue(service, seconds) for seconds in tiers),
        *(tick_queue(service, tick) for tick in service.ticks),
    ]


def _retry_queue(service: Service, seconds: float) -> Queue:
    # One queue for each delay: a queue expires messages at its head only.
    arguments = _dead_letter_to("", service.queue) | {"x-message-ttl": int(seconds * 1000)}
    return _quorum(service, service.retry_queue(seconds), arguments)


def _retry_exchange(service: Service) -> Exchange:
    return Exchange(service.retry_exchange, "direct", durable=True, no_declare=True)


def _overflow_exchange(service: Service) -> Exchange:
    # Everything but what was dropped goes on to the parking lot, by the binding that exists anyway:
    # a release without this exchange removes bindings that it does not know.
    return Exchange(
        service.overflow,
        "headers",
        durable=True,
        no_declare=True,
        arguments={"alternate-exchange": service.bus.dead_letters.name},
    )


def _quorum(service: Service, name: str, arguments: dict[str, object]) -> Queue:
    # Celery must see the type in the Queue object, or it asks for a QoS that quorum queues refuse.
    arguments = {"x-queue-type": "quorum"} | arguments
    return Queue(name, service.bus.events, queue_arguments=arguments, no_declare=True)


def _dead_letter_to(exchange: str, routing_key: str) -> dict[str, object]:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _bindings(service: Service, retry_tiers: Sequence[float]) -> list[Binding]:
    ticks = [
        (service.bus.ticks.name, service.tick_queue(t), service.tick_queue(t))
        for t in service.ticks
    ]
    events = [
        (service.bus.events.name, service.queue, event_type)
        for event_type in service.consumed_types
    ]
    failures = [
        (service.bus.dead_letters.name, service.parking_lot, service.name),
        (service.retry_exchange, service.parking_lot, PARKED),
        *((service.retry_exchange, service.retry_queue(s), tier_key(s)) for s in retry_tiers),
    ]
    missed = [(service.retry_exchange, service.queue, MISSED)]
    plain = [
        Binding(exchange=exchange, queue=queue, routing_key=key)
        for exchange, queue, key in (
            *ticks,
            *events,
            *(failures if service.consumes else ()),
            *(missed if service.can_overflow else ()),
        )
    ]
    return [*plain, *([_overflow_binding(service)] if service.can_overflow else [])]


def _overflow_binding(service: Service) -> Binding:
    # The first reason: RabbitMQ 3.10 has no header for the last one. What came back from a retry
    # tier has expired there first, and so goes to the parking lot.
    dropped = (("x-first-death-reason", "maxlen"),)
    return Binding(exchange=service.overflow, queue=service.overflow, headers=dropped)


def _stream_bindings(bus: Bus, services: Sequence[Service]) -> list[Binding]:
    # Not `#`: with it, a type that nobody consumes would have a queue, and the broker would return
    # none of its events. They would be gone from the outboxes without anybody's having had them.
    types = dict.fromkeys(event_type for s in services for event_type in s.consumed_types)
    return [Binding(exchange=bus.events.name, queue=bus.stream, routing_key=key) for key in types]
