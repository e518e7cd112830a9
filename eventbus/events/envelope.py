"""The envelope: CloudEvents 1.0 attributes around the data of one event."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Protocol
from uuid import UUID

from uuid_utils.compat import uuid7


class EventData(Protocol):
    """The data of an event: a frozen dataclass, the contract of one event type."""

    #: The event type, such as `order.created`: also its routing key and its Celery task's name.
    TYPE: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A CloudEvents 1.0 envelope with its data.

    `subject` is the id of the entity that the event is about. `sequence` numbers the events about
    one subject from one source, starting at 1. `causationid` is the id of the event that caused
    this one. A `replayed` event comes from history: it has no external side effects, and the events
    that it causes are replayed as well.
    """

    id: UUID = field(default_factory=uuid7)
    source: str
    subject: UUID
    sequence: int
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    traceparent: str | None = None
    causationid: UUID | None = None
    replayed: bool = False
    data: EventData

    @property
    def type(self) -> str:
        """The event's type, such as `order.created`."""
        return self.data.TYPE
