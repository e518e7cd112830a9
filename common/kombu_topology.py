"""Every exchange, queue, binding, retry tier, user and permission, as data.

All of it follows from `SERVICES`: what each service publishes and what it consumes.
`orderctl topology apply` declares it; the services declare nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from kombu.entity import Exchange, Queue

from common.versions import from_on

#: Seconds a failed event waits before each further attempt; the failure after the last parks it.
RETRY_TIERS = (1.0, 5.0, 30.0, 120.0, 600.0)

#: Deliveries of one message that may end with their connection before the broker parks it. The
#: broker counts them for all that a worker had received, so that this is a last resort, against a
#: message that no worker survives receiving. `common.suspects` finds one that a handler dies of.
DELIVERY_LIMIT = 1_000

#: RabbitMQ 4 drops what was looked at 20 times, unless the queue says otherwise.
UNLIMITED = 2**31 - 1

#: Messages in one service's queue. Beyond it the queue of an essential service refuses, and events
#: wait in the outbox; any other queue drops its oldest message, which the service takes from the
#: stream later, see `common.catch_up`.
QUEUE_LIMIT = 1_000_000

EVENTS = Exchange("orders.topic", "topic", durable=True, no_declare=True)
DEAD_LETTERS = Exchange("orders.dlx", "direct", durable=True, no_declare=True)
TICKS = Exchange("orders.ticks", "direct", durable=True, no_declare=True)
#: What workers tell of their tasks, to whoever looks on. The name is Celery's own.
TASK_EVENTS = Exchange("celeryev", "topic", durable=True, no_declare=True)

#: Keeps every event that some service consumes, for who wants the past; nothing takes one out.
STREAM = "orders.stream"

#: How long the stream keeps an event. Two weeks, as an outbox does: what is wrong for longer is not
#: mended by a replay. It goes by whole segments, so that some stay for longer.
STREAM_AGE = timedelta(days=14)

#: Bytes of the stream, at most: some three million orders. Beyond it the oldest go before their
#: time, so that a busy week does not fill the broker's disk.
STREAM_BYTES = 10_000_000_000

#: Bytes of one of its files, RabbitMQ's segments. Nothing goes before one is full, whatever its
#: age; RabbitMQ's own 500 MB would be months of a small shop.
STREAM_FILE_BYTES = 20_000_000

#: Matches the queues that onlookers declare for themselves, and bind to `TASK_EVENTS`: Celery names
#: each by a UUID, and the broker deletes it with its connection.
ONLOOKER_QUEUE = rf"{TASK_EVENTS.name}\.[0-9a-f-]{{36}}"

#: Routing key, on a service's retry exchange, of messages that go to its parking lot.
PARKED = "parked"

#: Routing key, on a service's retry exchange, of copies of events that its queue dropped.
MISSED = "missed"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service, by what it says and what it listens to; every name of its objects is here.

    Whoever publishes or consumes a type does so in its newer versions, too: see `says`, `hears`.
    """

    name: str
    #: The Python package with its code and its migrations.
    package: str
    publishes: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    #: What beat starts every second: `relay` drains the outbox, `mailer` the unsent mail, `reader`
    #: what is new in the stream.
    ticks: tuple[str, ...] = ()
    reads_stream: bool = False
    #: Whether orders cannot be decided without it. Its queue refuses events beyond its limit, which
    #: holds back their publisher; the queue of any other service never does.
    essential: bool = False

    @property
    def says(self) -> tuple[str, ...]:
        """The types of the events that it may publish."""
        return tuple(version for event_type in self.publishes for version in from_on(event_type))

    @property
    def hears(self) -> tuple[str, ...]:
        """The types of the events that come into its queue."""
        return tuple(version for event_type in self.consumes for version in from_on(event_type))

    @property
    def queue(self) -> str:
        """The queue of the events it consumes."""
        return f"{self.name}.queue"

    @property
    def spare_queue(self) -> str:
        """The queue that takes its events while its queue is replaced by another one."""
        return f"{self.queue}.spare"

    @property
    def parking_lot(self) -> str:
        """The queue of the messages that it could not handle."""
        return f"{self.name}.dlq"

    @property
    def retry_exchange(self) -> str:
        """The exchange of its own failed messages: nobody else reads or writes it."""
        return f"{self.name}.retry"

    @property
    def overflow(self) -> str:
        """The exchange and the queue of what its queue drops, unless the service is essential."""
        return f"{self.name}.overflow"

    @property
    def can_overflow(self) -> bool:
        """Whether its queue drops events beyond its limit."""
        return bool(self.consumes) and not self.essential

    def retry_queue(self, seconds: float) -> str:
        """The queue in which a failed message waits so long before it comes back."""
        return f"{self.name}.retry.{tier_key(seconds)}"

    def tick_queue(self, tick: str) -> str:
        """The queue of one kind of tick; also its routing key and its Celery task's name."""
        return f"{self.name}.{tick}"


ORDER = Service(
    name="order",
    package="order_app",
    publishes=("order.created", "order.confirmed", "order.shipped", "order.cancelled"),
    consumes=("stock.reserved", "stock.rejected", "stock.released"),
    ticks=("relay",),
    essential=True,
)
INVENTORY = Service(
    name="inventory",
    package="inventory_worker",
    publishes=("stock.reserved", "stock.rejected", "stock.released"),
    consumes=("order.created", "order.shipped", "order.cancelled"),
    ticks=("relay",),
    essential=True,
)
NOTIFICATION = Service(
    name="notification",
    package="notification_worker",
    consumes=(
        "order.created",
        "order.confirmed",
        "order.shipped",
        "order.cancelled",
        "fraud.suspected",
    ),
    ticks=("mailer",),
)
FRAUD = Service(
    name="fraud",
    package="fraud_worker",
    publishes=("fraud.suspected",),
    consumes=("order.created",),
    ticks=("relay",),
)

ANALYTICS = Service(
    name="analytics", package="analytics_worker", ticks=("reader",), reads_stream=True
)

SERVICES = (ORDER, INVENTORY, NOTIFICATION, FRAUD, ANALYTICS)

#: Those that have a queue for events.
CONSUMERS = tuple(service for service in SERVICES if service.consumes)

#: Keeps spans: it has a database, and nothing on the broker.
SPAN_STORE = Service(name="trace", package="span_store")

#: What has a database of its own.
DATABASES = (*SERVICES, SPAN_STORE)


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
class User:
    """A broker user; its rights are regular expressions of object names, `topics` of types."""

    name: str
    configure: str = "^$"
    write: str = "^$"
    read: str = "^$"
    topics: str = "^$"
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Topology:
    """What the broker must hold, neither more nor less."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    users: tuple[User, ...] = field(default=())


def topology(
    services: Sequence[Service] = SERVICES, retry_tiers: Sequence[float] = RETRY_TIERS
) -> Topology:
    """Return the topology that follows from these services and retry tiers (seconds)."""
    return Topology(
        exchanges=(
            EVENTS,
            DEAD_LETTERS,
            TICKS,
            TASK_EVENTS,
            *(_retry_exchange(s) for s in services if s.consumes),
            *(_overflow_exchange(s) for s in services if s.can_overflow),
        ),
        queues=(*(q for s in services for q in _queues(s, retry_tiers)), stream()),
        bindings=(*(b for s in services for b in _bindings(s, retry_tiers)), *_kept(services)),
        users=(*(_service_user(s) for s in services), *_operators(services)),
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
        arguments = _dead_letter_to(DEAD_LETTERS.name, service.name)
    limits = {"x-delivery-limit": DELIVERY_LIMIT, "x-max-length": QUEUE_LIMIT}
    return _quorum(service.queue, arguments | limits)


def overflow_queue(service: Service) -> Queue:
    """Return the queue that records that the service's queue dropped events: it keeps the last.

    The newest and not the oldest: a quorum queue does not refuse what is dead-lettered at most
    once, whatever its `x-overflow`. A message that a process takes and does not acknowledge counts
    as a delivery.
    """
    return _quorum(service.overflow, {"x-max-length": 1, "x-delivery-limit": UNLIMITED})


def tick_queue(service: Service, tick: str) -> Queue:
    """Return the queue of one kind of tick: of several that wait, one is enough.

    A tick may be lost, and the queue may not: without it nothing leaves an outbox. A classic queue
    is gone for as long as its node is.
    """
    return _quorum(service.tick_queue(tick), {"x-max-length": 1, "x-message-ttl": 10_000})


def stream() -> Queue:
    """Return the stream of past events."""
    arguments = {
        "x-queue-type": "stream",
        "x-max-age": f"{STREAM_AGE.days}D",
        "x-max-length-bytes": STREAM_BYTES,
        "x-stream-max-segment-size-bytes": STREAM_FILE_BYTES,
    }
    return Queue(STREAM, EVENTS, queue_arguments=arguments, no_declare=True)


def tier_key(seconds: float) -> str:
    """Return the name of a retry tier, such as `30s`."""
    return f"{seconds:g}s"


def _queues(service: Service, retry_tiers: Sequence[float]) -> list[Queue]:
    # Nothing in a parking lot expires and nothing limits it: to drop from it is to lose an event.
    parking_lot = _quorum(service.parking_lot, {"x-delivery-limit": UNLIMITED})
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
    return _quorum(service.retry_queue(seconds), arguments)


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
        arguments={"alternate-exchange": DEAD_LETTERS.name},
    )


def _quorum(name: str, arguments: dict[str, object]) -> Queue:
    # Celery must see the type in the Queue object, or it asks for a QoS that quorum queues refuse.
    arguments = {"x-queue-type": "quorum"} | arguments
    return Queue(name, EVENTS, queue_arguments=arguments, no_declare=True)


def _dead_letter_to(exchange: str, routing_key: str) -> dict[str, object]:
    return {
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _bindings(service: Service, retry_tiers: Sequence[float]) -> list[Binding]:
    ticks = [(TICKS.name, service.tick_queue(t), service.tick_queue(t)) for t in service.ticks]
    events = [(EVENTS.name, service.queue, event_type) for event_type in service.hears]
    failures = [
        (DEAD_LETTERS.name, service.parking_lot, service.name),
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


def _kept(services: Sequence[Service]) -> list[Binding]:
    # Not `#`: with it, a type that nobody consumes would have a queue, and the broker would return
    # none of its events. They would be gone from the outboxes without anybody's having had them.
    types = dict.fromkeys(event_type for s in services for event_type in s.hears)
    return [Binding(exchange=EVENTS.name, queue=STREAM, routing_key=key) for key in types]


def _service_user(service: Service) -> User:
    writes = [EVENTS.name] * bool(service.publishes)
    writes += [service.retry_exchange, TASK_EVENTS.name] * bool(service.consumes)
    reads = [service.queue] * bool(service.consumes)
    reads += [STREAM] * (service.reads_stream or service.can_overflow)
    reads += [service.overflow] * service.can_overflow
    reads += [service.tick_queue(tick) for tick in service.ticks]
    return User(
        name=service.name,
        write=_any_of(writes),
        read=_any_of(reads),
        topics=_any_of(service.says),
    )


def _operators(services: Sequence[Service]) -> tuple[User, ...]:
    parking_lots = [s.parking_lot for s in services if s.consumes]
    return (
        User(name="scheduler", write=_any_of([TICKS.name])),
        _monitor(),
        # Looks at what is parked, and puts it back on its queue, by the exchange without a name.
        User(
            name="console",
            tags=("monitoring",),
            write=_any_of(["amq.default"]),
            read=_any_of(parking_lots),
        ),
        # Reads the past, and puts it on the queue of a service that wants it.
        User(name="replayer", write=_any_of(["amq.default"]), read=_any_of([STREAM])),
    )


def _monitor() -> User:
    # To bind a queue is to write it, and to read the exchange. Queue lengths come from the
    # management API, by the tag: the right to read a queue is the right to purge it.
    reads = _any_of([TASK_EVENTS.name])
    return User(
        name="monitor",
        tags=("monitoring",),
        configure=f"^{ONLOOKER_QUEUE}$",
        write=f"^{ONLOOKER_QUEUE}$",
        read=f"{reads}|^{ONLOOKER_QUEUE}$",
    )


def _any_of(names: Sequence[str]) -> str:
    alternatives = "|".join(name.replace(".", r"\.") for name in names)
    return f"^({alternatives})$" if names else "^$"
