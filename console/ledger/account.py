"""The account of one service: the places of the events that it consumes."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from common.kombu_topology import SERVICES
from eventbus.events.versions import versions
from eventbus.topology.service import Service

#: Maximum number of open events of one service that are examined individually. They are kept in
#: memory.
OPEN_LIMIT = 100_000


class Place(StrEnum):
    """The place of an event, from the point of view of one service that consumes it."""

    #: The event is in the outbox, and not published yet.
    UNSENT = "unsent"
    #: The event is in the service's queue or its worker, or not proven to be elsewhere.
    IN_FLIGHT = "in flight"
    #: The event is in a retry tier.
    RETRYING = "retrying"
    #: The event is in the parking lot, or among the messages of the stream that the service has
    #: skipped.
    PARKED = "parked"
    #: An operator has discarded the event, and can restore it for a while.
    DISCARDED = "discarded"
    #: The event is in the stream, from which the service has yet to read it.
    IN_STREAM = "in the stream"
    #: The event is in the service's inbox.
    HANDLED = "handled"
    #: The event is in none of the other places.
    MISSING = "missing"
    #: The event was sent so long ago that the inbox may have deleted its id.
    EXPIRED = "expired"
    #: The event is older than every event that the service has handled, and was therefore published
    #: before the service subscribed.
    EARLIER = "earlier"


class OutboxEvent(NamedTuple):
    """An event of an outbox. `sent_at` is None until the broker has confirmed it."""

    id: UUID
    type: str
    sent_at: datetime | None


class OpenEvent(NamedTuple):
    """An event that was sent, and that its consumer has not handled; `outbox` names its source."""

    id: UUID
    type: str
    outbox: str
    sent_at: datetime


@dataclass(kw_only=True)
class Account:
    """The events that one service consumes, counted by place. Open events are kept by id."""

    service: Service
    #: The lowest id in the service's inbox; None if the inbox is empty.
    first: UUID | None = None
    counts: Counter[Place] = field(default_factory=Counter)
    #: The open events, in the order of the scan, at most `OPEN_LIMIT`.
    open: dict[UUID, OpenEvent] = field(default_factory=dict)
    #: Number of open events beyond the limit, which count as in flight, and are not examined.
    unexamined: int = 0
    missing: list[OpenEvent] = field(default_factory=list)
    #: Number of messages in the parking lot whose event is also in the inbox. They are harmless
    #: duplicates.
    parked_duplicates: int = 0
    #: The reason why open events could not be examined. Empty if they were examined.
    unproven: str = ""
    _is_owed: dict[str, bool] = field(default_factory=dict)

    def owed(self, events: Iterable[OutboxEvent]) -> list[OutboxEvent]:
        """Return the events that the service consumes, in any version."""
        return [event for event in events if self.owes(event.type)]

    def owes(self, event_type: str) -> bool:
        """Return whether the service consumes a type, in any version."""
        if event_type not in self._is_owed:
            types = consumed_types(self.service).intersection(versions(event_type))
            self._is_owed[event_type] = bool(types)
        return self._is_owed[event_type]

    def enter(
        self, outbox: str, events: Iterable[OutboxEvent], handled: set[UUID], expiry: datetime
    ) -> None:
        """Count events of an outbox. An event that was sent and is not in `handled` is open.

        The inbox may have deleted the ids of events that were sent before `expiry`.
        """
        for event in events:
            place = self._place(event, handled, expiry)
            if place:
                self.counts[place] += 1
            elif event.sent_at and len(self.open) < OPEN_LIMIT:
                self.open[event.id] = OpenEvent(event.id, event.type, outbox, event.sent_at)
            else:
                self.unexamined += 1

    def settle(self, ids: Iterable[UUID], place: Place) -> None:
        """Count open events as being in this place, and ignore other ids."""
        for event_id in ids:
            if event := self.open.pop(event_id, None):
                self.counts[place] += 1
                if place is Place.MISSING:
                    self.missing.append(event)

    def close(self) -> None:
        """Count the events that are still open as in flight."""
        self.settle(tuple(self.open), Place.IN_FLIGHT)
        self.counts[Place.IN_FLIGHT] += self.unexamined
        self.missing.sort(key=lambda event: event.sent_at)

    def _place(self, event: OutboxEvent, handled: set[UUID], expiry: datetime) -> Place | None:
        if event.id in handled:
            return Place.HANDLED
        if event.sent_at is None:
            return Place.UNSENT
        if event.sent_at < expiry:
            return Place.EXPIRED
        if self.first is None or event.id < self.first:
            return Place.EARLIER
        return None


def consumed_types(service: Service) -> frozenset[str]:
    """Return the types of the events that a service receives, by its queue or by the stream."""
    if service.reads_stream:
        return frozenset(t for each in SERVICES for t in each.consumed_types)
    return frozenset(service.consumed_types)
