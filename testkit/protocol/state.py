"""The states of the model, and the scenario that bounds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

#: The number of an event in the outbox.
Event = int

#: A message in the queue of a service: the service, the event, and the attempt, counted from 1.
Message = tuple[int, Event, int]

#: An event for one service.
Copy = tuple[int, Event]


class Row(IntEnum):
    """The state of an outbox row."""

    NEW = 0
    #: The broker has rejected the event, which is tried again.
    IN_LANE = 1
    #: A relay has decided to put the event behind another, but has not written the decision yet.
    #: This state exists only if a rule is broken.
    HOLDING = 2
    #: The event waits until an earlier event of its order, which is in a lane, is sent.
    BEHIND = 3
    SENT = 4
    DELETED = 5


class Flight(IntEnum):
    """The state of an event in a relay's batch."""

    ON_THE_WIRE = 0
    #: The broker has stored the event and confirms it.
    CONFIRMED = 1
    #: The broker has returned or refused the event.
    REJECTED = 2
    #: The event is marked, and the events behind it are not released yet. This state exists only if
    #: that rule is broken.
    MARKED = 3


class Phase(IntEnum):
    """The progress of a worker with the message that it holds."""

    RECEIVED = 0
    #: Either the effect or the inbox row is committed. This state exists only if a rule is broken.
    HALF_COMMITTED = 1
    COMMITTED = 2
    FAILED = 3
    COPIED = 4
    #: The message is acknowledged before the copy is published. This state exists only if a rule is
    #: broken.
    ACKNOWLEDGED = 5
    #: The event is recorded as parked, because it has failed or waits, and is to be parked.
    RECORDED = 6
    #: The message is parked before it is recorded. This state exists only if a rule is broken.
    UNRECORDED = 7


Batch = tuple[tuple[Event, Flight], ...]
Held = tuple[Message, Phase]


class Budget(NamedTuple):
    """The faults that may still happen."""

    #: Number of times that a process or its connection ends.
    crashes: int = 0
    #: Number of events that the broker returns or refuses.
    rejections: int = 0
    #: Number of attempts in which a handler fails.
    failures: int = 0
    #: Number of parked messages that the operator redrives.
    redrives: int = 0


class State(NamedTuple):
    """The entire system. Equal states are explored once, so equal actors are sorted."""

    outbox: tuple[Row, ...]
    relays: tuple[Batch, ...]
    #: The messages in the queues and retry tiers of all services.
    queued: tuple[Message, ...]
    workers: tuple[Held | None, ...]
    inbox: frozenset[Copy]
    #: The number of effects of each copy, in the order of `Scenario.copies`.
    effects: tuple[int, ...]
    parked: tuple[Copy, ...]
    #: The records of parked events, if services park in sequence.
    recorded: frozenset[Copy]
    #: The copies that have been parked and have no effect yet, if services park in sequence.
    overdue: frozenset[Copy]
    #: The parked message that is being redriven, and whether it is copied.
    redriven: tuple[Copy, bool] | None
    #: The copies that have reached their queue at least once.
    reached: frozenset[Copy]
    #: A violated invariant, if the step itself shows one.
    violation: str
    budget: Budget


@dataclass(frozen=True)
class Scenario:
    """The size of the model, which is explored exhaustively within these bounds."""

    name: str
    #: The number of events of each order.
    orders: tuple[int, ...]
    budget: Budget
    services: int = 1
    relays: int = 2
    #: The number of workers; with 0, the queues are only observed.
    workers: int = 2
    #: Whether a relay waits while another relay has a batch. The protocol does not depend on this.
    exclusive: bool = False
    retention: bool = False
    #: The number of the last attempt of an event.
    attempts: int = 2
    #: Whether services park in sequence.
    in_sequence: bool = False
    #: Whether all events are in the queues at the start.
    is_published: bool = False

    @cached_property
    def order_of(self) -> tuple[int, ...]:
        """The order of each event."""
        return tuple(order for order, count in enumerate(self.orders) for _ in range(count))

    @cached_property
    def copies(self) -> tuple[Copy, ...]:
        """Each event for each service."""
        return tuple((s, e) for s in range(self.services) for e in range(len(self.order_of)))

    @cached_property
    def earlier(self) -> tuple[tuple[Event, ...], ...]:
        """The earlier events of each event's order."""
        return tuple(
            tuple(e for e in range(event) if self.order_of[e] == order)
            for event, order in enumerate(self.order_of)
        )

    def name_of(self, event: Event) -> str:
        """Return the name of an event: its order's letter and its sequence."""
        return f"{chr(ord('A') + self.order_of[event])}{len(self.earlier[event]) + 1}"

    def start(self) -> State:
        """Return the state in which all events are in the outbox, or in the queues."""
        row = Row.SENT if self.is_published else Row.NEW
        published = self.copies if self.is_published else ()
        return State(
            outbox=(row,) * len(self.order_of),
            relays=((),) * self.relays,
            queued=tuple((*copy, 1) for copy in published),
            workers=(None,) * self.workers,
            inbox=frozenset(),
            effects=(0,) * len(self.copies),
            parked=(),
            recorded=frozenset(),
            overdue=frozenset(),
            redriven=None,
            reached=frozenset(published),
            violation="",
            budget=self.budget,
        )


class Step(NamedTuple):
    """A transition: its description, and the state after it."""

    label: str
    state: State
    #: Whether it may also never happen: a fault, or an operator's or retention's decision.
    is_optional: bool = False


Steps = Iterator[Step]
