"""The broker objects of a system, derived from its services: exchanges, queues and bindings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kombu.entity import Exchange, Queue

from eventbus.topology.limits import (
    DELIVERY_LIMIT,
    QUEUE_LIMIT,
    STREAM_AGE,
    STREAM_BYTES,
    STREAM_SEGMENT_BYTES,
    UNLIMITED,
)
from eventbus.topology.retry_schedule import RETRY_TIERS
from eventbus.topology.service import MISSED, PARKED, Bus, Service, tier_key
from eventbus.topology.users import TASK_EVENTS, User, users


@dataclass(frozen=True, kw_only=True)
class Binding:
    """A route of messages with this routing key from `exchange` to `queue`.

    A headers exchange routes messages with all of `headers`, and ignores the routing key. A route
    to another exchange has a `target_exchange` and no queue.
    """

    exchange: str
    queue: str = ""
    target_exchange: str = ""
    routing_key: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def arguments(self) -> dict[str, str]:
        """The binding's arguments. Unlike the default, they match headers that start with `x-`."""
        return {"x-match": "all-with-x", **dict(self.headers)} if self.headers else {}


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The exact set of objects that the broker must have."""

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
            *(_part_exchange(s) for s in services if s.parts > 1),
        ),
        queues=(*(q for s in services for q in _queues(s, retry_tiers)), stream(bus)),
        bindings=(
            *(b for s in services for b in _bindings(s, retry_tiers)),
            *_stream_bindings(bus, services),
        ),
        users=users(bus, services),
    )


def event_queue(service: Service, part: int = 0) -> Queue:
    """Return the queue from which a service, or the worker of one part, consumes events.

    A message that is rejected, or exceeds the delivery limit, goes to the parking lot. The queue of
    an essential service dead-letters it at least once: the broker keeps the message until the
    parking lot has confirmed it, which requires `reject-publish`. A queue that can overflow drops
    its oldest message instead, so RabbitMQ dead-letters from it at most once.
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
    return _quorum(service, service.part_queue(part), arguments | limits)


def overflow_queue(service: Service) -> Queue:
    """Return the queue of the marker, which keeps the newest event that a service's queue dropped.

    The queue cannot keep the oldest event: a quorum queue does not reject messages that are
    dead-lettered at most once, regardless of `x-overflow`. Deliveries are unlimited, because a
    message that a process receives without acknowledging it counts as a delivery.
    """
    return _quorum(service, service.overflow, {"x-max-length": 1, "x-delivery-limit": UNLIMITED})


def tick_queue(service: Service, tick: str) -> Queue:
    """Return the queue of one kind of tick, with one message: more ticks would have no effect.

    A tick may be lost, but the queue must exist: otherwise its process cannot consume. A classic
    queue would be unavailable while its node is down.
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
    # A parking lot has no TTL and no length limit, because dropping a message from it would lose an
    # event.
    parking_lot = _quorum(service, service.parking_lot, {"x-delivery-limit": UNLIMITED})
    parts = [event_queue(service, part) for part in range(service.parts)]
    events = [*parts, parking_lot] if service.consumes else []
    tiers = retry_tiers if service.consumes else ()
    return [
        *events,
        *([overflow_queue(service)] if service.can_overflow else []),
        *(_retry_queue(service, seconds) for seconds in tiers),
        *(tick_queue(service, tick) for tick in service.ticks),
    ]


def _retry_queue(service: Service, seconds: float) -> Queue:
    # Each delay has its own queue, because a queue expires messages only at its head.
    arguments = _dead_letter_to("", service.queue) | {"x-message-ttl": int(seconds * 1000)}
    return _quorum(service, service.retry_queue(seconds), arguments)


def _retry_exchange(service: Service) -> Exchange:
    return Exchange(service.retry_exchange, "direct", durable=True, no_declare=True)


def _part_exchange(service: Service) -> Exchange:
    # The subject of an event is the correlation id of its message. A header would add a second copy
    # of the id to each message.
    return Exchange(
        service.part_exchange,
        "x-consistent-hash",
        durable=True,
        no_declare=True,
        arguments={"hash-property": "correlation_id"},
    )


def _overflow_exchange(service: Service) -> Exchange:
    # Messages that were not dropped are routed to the parking lot, through the binding that every
    # service has: a release without this exchange removes the bindings that it does not define.
    return Exchange(
        service.overflow,
        "headers",
        durable=True,
        no_declare=True,
        arguments={"alternate-exchange": service.bus.dead_letters.name},
    )


def _quorum(service: Service, name: str, arguments: dict[str, object]) -> Queue:
    # Celery reads the type from the Queue object; otherwise it sets a QoS that quorum queues
    # reject.
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
            *(failures if service.consumes else ()),
            *(missed if service.can_overflow else ()),
        )
    ]
    overflow = [_overflow_binding(service)] if service.can_overflow else []
    return [*_event_bindings(service), *plain, *overflow]


def _event_bindings(service: Service) -> Iterator[Binding]:
    source = service.bus.events.name
    if service.parts == 1:
        for key in service.consumed_types:
            yield Binding(exchange=source, queue=service.queue, routing_key=key)
        return
    # The parts are bound first, because the exchange would drop events while it has no queue.
    for queue in service.queues:
        # A consistent-hash exchange interprets the routing key as a weight.
        yield Binding(exchange=service.part_exchange, queue=queue, routing_key="1")
    for key in service.consumed_types:
        yield Binding(exchange=source, target_exchange=service.part_exchange, routing_key=key)


def _overflow_binding(service: Service) -> Binding:
    # The header contains the reason of the first dead-lettering, because RabbitMQ 3.10 has no
    # header for the last. A message that returned from a retry tier first expired there, so it goes
    # to the parking lot.
    dropped = (("x-first-death-reason", "maxlen"),)
    return Binding(exchange=service.overflow, queue=service.overflow, headers=dropped)


def _stream_bindings(bus: Bus, services: Sequence[Service]) -> list[Binding]:
    # The stream is not bound with `#`, which would include types without a consumer, so the broker
    # would not return their events as unroutable. They would leave the outboxes without having been
    # consumed.
    types = dict.fromkeys(event_type for s in services for event_type in s.consumed_types)
    return [Binding(exchange=bus.events.name, queue=bus.stream, routing_key=key) for key in types]
