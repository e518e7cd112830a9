"""A simulated publisher, with the relay's side and the broker's side of its connection."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from random import Random

from eventbus.events import codec
from eventbus.messaging.event_message import task_headers
from eventbus.messaging.in_flight import InFlight, Outgoing, Report
from testkit.simulation.broker import SimulatedBroker, Stored
from testkit.simulation.scheduler import Scheduler

#: Seconds within which all confirms of a batch must arrive.
_CONFIRM_TIMEOUT = 10.0

_LOST = "ConnectionError: the connection was lost"
_OBJECTED = "AccessRefused: ACCESS_REFUSED"


@dataclass(frozen=True)
class Answer:
    """The broker's reply to one message."""

    tag: int
    is_refusal: bool = False
    #: The message that had no queue, if it was returned.
    returned: Outgoing | None = None


@dataclass(eq=False)
class PublisherChannel:
    """The messages in transit to the broker, and its replies in transit to the publisher."""

    wire: deque[tuple[int, Outgoing]] = field(default_factory=deque)
    answers: list[Answer] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    last_tag: int = 0
    is_closed: bool = False


class SimulatedPublisher:
    """A `Publisher`, and a participant that delivers its messages and replies one at a time."""

    def __init__(
        self, name: str, broker: SimulatedBroker, scheduler: Scheduler, rng: Random
    ) -> None:
        self._name = name
        self._broker = broker
        self._scheduler = scheduler
        self._rng = rng
        self._channels: dict[bool, PublisherChannel] = {}
        #: Event types to which the broker objects: it closes the channel.
        self.objects_to: set[str] = set()
        #: Event types for which no reply arrives, as from a queue without a quorum.
        self.silent: set[str] = set()
        self.can_connect = True

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        """Publish in this order, without waiting; never raise because of the broker's state."""
        self._scheduler.point()
        in_flight = InFlight("orders.topic")
        if not self.can_connect:
            in_flight.report.error = _LOST
            return in_flight
        channel = self._channels.get(aside)
        if channel is None or channel.is_closed:
            channel = self._channels[aside] = PublisherChannel()
        channel.in_flight.append(in_flight)
        in_flight.deadline = self._scheduler.clock.now + _CONFIRM_TIMEOUT
        for outgoing in batch:
            channel.last_tag += 1
            in_flight.unconfirmed[channel.last_tag] = (outgoing.event_id, outgoing.type)
            channel.wire.append((channel.last_tag, outgoing))
        self._scheduler.point()
        return in_flight

    def settle(self, in_flight: InFlight, until: float = inf) -> Report | None:
        """Wait for the confirms of a batch; never raise because of the broker's state."""
        clock = self._scheduler.clock
        while in_flight.unconfirmed and not in_flight.report.error:
            if self._broker.is_blocked:
                in_flight.deadline = clock.now + _CONFIRM_TIMEOUT
                return None
            if clock.now >= in_flight.deadline:
                self._replace(in_flight)
                in_flight.give_up()
            elif clock.now >= until:
                return None
            else:
                self._wait(in_flight, min(until, in_flight.deadline))
        for channel in self._channels.values():
            if in_flight in channel.in_flight:
                channel.in_flight.remove(in_flight)
        report = in_flight.conclude()
        self._scheduler.point()
        return report

    def ready(self, until: float) -> bool:
        """Wait while the broker rejects messages; return whether it accepts them at `until`."""
        while self._broker.is_blocked and self._scheduler.clock.now < until:
            self._scheduler.wait(until, lambda: not self._broker.is_blocked)
        return not self._broker.is_blocked

    def heartbeat(self) -> None:
        """Keep an idle connection alive."""

    @property
    def is_idle(self) -> bool:
        """Whether no batch is in flight."""
        return not any(channel.in_flight for channel in self._channels.values())

    def cut(self) -> None:
        """End the connection: the broker still receives some messages, but no reply arrives."""
        for channel in self._channels.values():
            for _ in range(self._rng.randrange(len(channel.wire) + 1)):
                if channel.wire:
                    self._take(channel)
            if channel.answers:
                self._broker.seen["connection cut between publish and confirm"] += 1
            channel.is_closed = True
            for in_flight in channel.in_flight:
                in_flight.report.error = _LOST
            channel.wire.clear()
            channel.answers.clear()
        self._channels.clear()

    def is_ready(self) -> bool:
        """Return whether the broker can receive a message, or a reply can arrive."""
        return any(
            channel.answers or (channel.wire and not self._broker.is_blocked)
            for channel in self._channels.values()
        )

    def step(self) -> None:
        """Deliver one message to the broker, or one reply to the publisher."""
        steps = [
            (channel, is_answer)
            for channel in self._channels.values()
            for is_answer in (True, False)
            if (channel.answers if is_answer else channel.wire and not self._broker.is_blocked)
        ]
        channel, is_answer = self._rng.choice(steps)
        if is_answer:
            self._answer(channel)
        else:
            self._take(channel)

    def _wait(self, in_flight: InFlight, until: float) -> None:
        before = len(in_flight.unconfirmed)
        self._scheduler.wait(
            until,
            lambda: (
                len(in_flight.unconfirmed) < before
                or bool(in_flight.report.error)
                or self._broker.is_blocked
            ),
        )

    def _take(self, channel: PublisherChannel) -> None:
        tag, outgoing = channel.wire.popleft()
        if outgoing.type in self.objects_to:
            self._object(channel)
            return
        self._broker.seen[f"published by {self._name}"] += 1
        headers = task_headers(str(outgoing.event_id), outgoing.type, None)
        message = Stored(codec.wrap(outgoing.event.encode()), headers)
        has_queue, is_taken = self._broker.route(message)
        if outgoing.type in self.silent:
            return
        answer = Answer(tag, not is_taken, None if has_queue else outgoing)
        self._broker.seen["returned"] += not has_queue
        self._broker.seen["nacked"] += not is_taken
        channel.answers.append(answer)

    def _object(self, channel: PublisherChannel) -> None:
        self._broker.seen["objected"] += 1
        channel.is_closed = True
        channel.wire.clear()
        channel.answers.clear()
        for in_flight in channel.in_flight:
            if in_flight.unconfirmed:
                in_flight.report.error, in_flight.report.objected = _OBJECTED, True

    def _answer(self, channel: PublisherChannel) -> None:
        # Different queues confirm at different times, so replies may overtake each other.
        answer = channel.answers.pop(self._rng.randrange(len(channel.answers)))
        for in_flight in channel.in_flight:
            if answer.tag not in in_flight.unconfirmed:
                continue
            if answer.returned:
                returned = answer.returned
                in_flight.returned.add((returned.event_id, returned.type))
                reason = f"orders.topic has no queue for {returned.type}"
                in_flight.report.returned[returned.event_id] = reason
            if answer.is_refusal:
                in_flight.nack(answer.tag, multiple=False)
            else:
                in_flight.ack(answer.tag, multiple=False)

    def _replace(self, in_flight: InFlight) -> None:
        for channel in self._channels.values():
            if in_flight in channel.in_flight:
                channel.is_closed = True
                channel.wire.clear()
                channel.answers.clear()
                for late in channel.in_flight:
                    late.give_up()
