"""A simulated broker: an exchange, queues, retry tiers and parking lots, and its faults."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from eventbus.messaging.copy_channel import Copy
from eventbus.topology.service import PARKED, Service
from testkit.simulation.clock import VirtualClock

#: The share of deliveries that are not the oldest message of their queue.
_REORDERED = 0.2


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a queue."""

    body: bytes
    headers: Mapping[str, Any]
    #: Number of deliveries that have ended with their connection.
    returned: int = 0

    @property
    def event_id(self) -> str:
        """The id of its event."""
        return str(self.headers["id"])


@dataclass(eq=False)
class ConsumerChannel:
    """The broker's side of a worker's connection. `connection` is None once it has ended."""

    queue: str
    connection: object
    unacknowledged: dict[int, Stored] = field(default_factory=dict)
    #: Delivered messages that the worker has not read yet.
    arrived: deque[tuple[int, Stored]] = field(default_factory=deque)
    last_tag: int = 0
    on_reject: Callable[[Stored], None] = field(default=lambda _: None)

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        """Remove acknowledged messages; raise `AssertionError` for an unknown tag."""
        assert tag in self.unacknowledged, f"delivery {tag} is not unacknowledged"
        for each in [t for t in self.unacknowledged if t == tag or (multiple and t < tag)]:
            del self.unacknowledged[each]

    def basic_reject(self, tag: int, _requeue: bool) -> None:
        """Park a message."""
        message = self.unacknowledged[tag]
        self.basic_ack(tag)
        self.on_reject(message)


@dataclass(eq=False)
class PendingCopy:
    """A copy that a worker publishes, and the receiver of its outcome."""

    copy: Copy
    report: Callable[[str | None], None]


class SimulatedBroker:
    """The broker, which takes one step at a time, chosen by the seed."""

    #: The largest number of unacknowledged messages of one consumer.
    PREFETCH = 6

    def __init__(self, clock: VirtualClock, rng: Random, services: tuple[Service, ...]) -> None:
        self._clock = clock
        self._rng = rng
        self.services = {service.queue: service for service in services}
        self.queues: dict[str, deque[Stored]] = {queue: deque() for queue in self.services}
        self.parked: dict[str, list[Stored]] = {queue: [] for queue in self.services}
        #: Messages that enter a queue at a later time.
        self.delayed: list[tuple[float, str, Stored]] = []
        #: Queues without a consumer here, which are only observed.
        self.observed: set[str] = set()
        self.consumers: list[ConsumerChannel] = []
        self.copies: list[PendingCopy] = []
        #: Each queue's messages, sorted by their arrival from the topic exchange.
        self.arrivals: dict[str, list[Stored]] = defaultdict(list)
        #: Messages that reached a queue as the retry of another service.
        self.leaked: list[str] = []
        #: Events that passed a parked event of their subject, in a service that parks in sequence.
        self.passed: list[str] = []
        self.seen: Counter[str] = Counter()
        self.is_blocked = False
        self.unbound: set[str] = set()
        self.full: set[str] = set()

    def route(self, message: Stored) -> tuple[bool, bool]:
        """Store a message of the topic exchange. Return whether it had queues, and all stored it.

        A queue that is full does not prevent other queues from storing the message.
        """
        event_type = str(message.headers["task"])
        bound = [
            queue
            for queue, service in self.services.items()
            if event_type in service.consumed_types and event_type not in self.unbound
        ]
        for queue in bound:
            if queue not in self.full:
                self.enter(queue, message)
                self.arrivals[queue].append(message)
        return bool(bound), not any(queue in self.full for queue in bound)

    def enter(self, queue: str, message: Stored) -> None:
        """Add a message to a queue."""
        if queue not in self.observed:
            self.queues[queue].append(message)

    def consume(self, queue: str) -> ConsumerChannel:
        """Return a new channel that consumes a queue."""
        channel = ConsumerChannel(queue, object())
        channel.on_reject = self.parked[queue].append
        self.consumers.append(channel)
        return channel

    def drop(self, channel: ConsumerChannel) -> None:
        """End a consumer's connection, which returns its messages to their queue."""
        if channel.connection is None:
            return
        channel.connection = None
        self.consumers.remove(channel)
        for message in reversed(channel.unacknowledged.values()):
            again = replace(message, returned=message.returned + 1)
            self.queues[channel.queue].appendleft(again)

    def is_ready(self) -> bool:
        """Return whether a message can be delivered, stored or released."""
        return bool(self._possible())

    def step(self) -> None:
        """Take one of the possible steps."""
        self._rng.choice(self._possible())()

    def is_empty(self) -> bool:
        """Return whether all messages are in parking lots."""
        return not (
            any(self.queues.values())
            or self.delayed
            or self.copies
            or any(consumer.unacknowledged for consumer in self.consumers)
        )

    def _possible(self) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = []
        if any(at <= self._clock.now for at, _, _ in self.delayed):
            steps.append(self._release)
        if self.copies and not self.is_blocked:
            steps.append(self._take_copy)
        if self._receivers():
            steps.append(self._deliver)
        return steps

    def _receivers(self) -> list[ConsumerChannel]:
        return [
            consumer
            for consumer in self.consumers
            if self.queues[consumer.queue] and len(consumer.unacknowledged) < self.PREFETCH
        ]

    def _deliver(self) -> None:
        consumer = self._rng.choice(self._receivers())
        queue = self.queues[consumer.queue]
        index = self._rng.randrange(len(queue)) if self._rng.random() < _REORDERED else 0
        message = queue[index]
        del queue[index]
        consumer.last_tag += 1
        consumer.unacknowledged[consumer.last_tag] = message
        consumer.arrived.append((consumer.last_tag, message))

    def _release(self) -> None:
        due = [entry for entry in self.delayed if entry[0] <= self._clock.now]
        entry = self._rng.choice(due)
        self.delayed.remove(entry)
        self.enter(entry[1], entry[2])

    def _take_copy(self) -> None:
        pending = self.copies.pop(self._rng.randrange(len(self.copies)))
        copy = pending.copy
        if not copy.is_wanted():
            pending.report("the original is gone")
            return
        message = Stored(copy.message.body, dict(copy.message.headers))
        owners = {each.retry_exchange: each for each in self.services.values()}
        if owner := owners.get(copy.exchange):
            self._store_copy(owner, message, copy)
        else:
            self.route(message)
            self.leaked.append(message.event_id)
        pending.report(None)

    def _store_copy(self, owner: Service, message: Stored, copy: Copy) -> None:
        if copy.routing_key == PARKED:
            self.parked[owner.queue].append(message)
            self.seen["parked"] += 1
        else:
            wait = int(copy.message.properties["expiration"]) / 1000
            self.delayed.append((self._clock.now + wait, owner.queue, message))
            self.seen["retried"] += 1
