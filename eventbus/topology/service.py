"""A service as data: its published and consumed types, and the names of its broker objects."""

import re
from dataclasses import dataclass
from functools import cached_property

from kombu.entity import Exchange

from eventbus.events.versions import from_on

#: The routing key, on a service's retry exchange, of messages for its parking lot.
PARKED = "parked"

#: The routing key, on a service's retry exchange, of copies of events that its queue dropped.
MISSED = "missed"


@dataclass(frozen=True)
class Bus:
    """The broker objects that all services of a system share; their names start with `name`."""

    name: str

    @cached_property
    def events(self) -> Exchange:
        """The exchange to which every event is published."""
        return Exchange(f"{self.name}.topic", "topic", durable=True, no_declare=True)

    @cached_property
    def dead_letters(self) -> Exchange:
        """The exchange of dead letters."""
        return Exchange(f"{self.name}.dlx", "direct", durable=True, no_declare=True)

    @cached_property
    def ticks(self) -> Exchange:
        """The exchange of ticks."""
        return Exchange(f"{self.name}.ticks", "direct", durable=True, no_declare=True)

    @property
    def stream(self) -> str:
        """The stream of every consumed event, for consumers that need history."""
        return f"{self.name}.stream"


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service: its published and consumed types, and the names of its broker objects.

    A service that publishes or consumes an event type also does so in newer versions: see
    `published_types` and `consumed_types`.
    """

    name: str
    #: The Python package with its code and its migrations.
    package: str
    bus: Bus
    publishes: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    #: The kinds of its ticks, which beat sends every second. There is one kind for each process
    #: that runs loops, such as `relay`, and each kind is a module of the package.
    ticks: tuple[str, ...] = ()
    reads_stream: bool = False
    #: Whether the core flow of the system requires it. If the queue of an essential service is
    #: full, it rejects events, which delays their publisher. Other queues never reject events.
    essential: bool = False
    #: Whether a parked event makes the later events of its subject and source wait in the parking
    #: lot. This is for a service whose handlers depend on the ordering of events.
    parks_in_sequence: bool = False
    #: The number of parts of its queue, each with its own worker. All events of one subject are in
    #: the same part.
    parts: int = 1
    #: The service's tables that monitoring may read, in addition to the library's tables.
    monitored_tables: tuple[str, ...] = ()

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of its processes: a worker if it consumes, and one process for each tick."""
        worker = ("worker",) if self.consumes else ()
        return tuple(f"{self.name}-{kind}" for kind in (*worker, *self.ticks))

    @property
    def library_tables(self) -> tuple[str, ...]:
        """The library's tables in its database, which `eventbus/migrations` creates."""
        outbox = ("outbox", "relay_state") if self.publishes else ()
        inbox = ("inbox",) if self.consumes or self.reads_stream else ()
        worker = ("operator_pause", "suspects", "parked_events") if self.consumes else ()
        overflow = ("overflow",) if self.can_overflow else ()
        return (*outbox, *inbox, *worker, *overflow)

    @property
    def readable_tables(self) -> tuple[str, ...]:
        """The tables in its database that monitoring may read."""
        hidden = {"suspects"} if self.parks_in_sequence else {"suspects", "parked_events"}
        library = (table for table in self.library_tables if table not in hidden)
        return (*self.monitored_tables, *library)

    @property
    def published_types(self) -> tuple[str, ...]:
        """The types of the events that it may publish."""
        return tuple(version for event_type in self.publishes for version in from_on(event_type))

    @property
    def consumed_types(self) -> tuple[str, ...]:
        """The types of the events that are routed to its queue."""
        return tuple(version for event_type in self.consumes for version in from_on(event_type))

    @property
    def queue(self) -> str:
        """The queue of the events that it consumes."""
        return f"{self.name}.queue"

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues of the events that it consumes, one for each part."""
        return tuple(self.part_queue(part) for part in range(self.parts))

    @property
    def part_exchange(self) -> str:
        """The exchange that distributes its events among the parts of its queue."""
        return f"{self.name}.parts"

    @property
    def spare_queue(self) -> str:
        """The queue that receives its events while its queue is replaced."""
        return f"{self.queue}.spare"

    @property
    def parking_lot(self) -> str:
        """The queue of the messages that it could not handle."""
        return f"{self.name}.dlq"

    @property
    def retry_exchange(self) -> str:
        """The exchange of its failed messages, to which no other service publishes."""
        return f"{self.name}.retry"

    @property
    def overflow(self) -> str:
        """The exchange and the queue of messages that its queue drops, unless it is essential."""
        return f"{self.name}.overflow"

    @property
    def can_overflow(self) -> bool:
        """Whether its queue drops events beyond its limit."""
        return bool(self.consumes) and not self.essential

    def part_queue(self, part: int) -> str:
        """Return the queue of one part. Failed messages return to the first part."""
        return f"{self.queue}.{part}" if part else self.queue

    def is_part_queue(self, name: str) -> bool:
        """Return whether this is the name of one of its queues, for any number of parts."""
        return re.fullmatch(rf"{re.escape(self.queue)}(\.[1-9][0-9]*)?", name) is not None

    def retry_queue(self, seconds: float) -> str:
        """Return the queue in which a failed message waits for a retry tier's seconds."""
        return f"{self.name}.retry.{tier_key(seconds)}"

    def tick_queue(self, tick: str) -> str:
        """Return the queue of one kind of tick; also its routing key and Celery task name."""
        return f"{self.name}.{tick}"


def tier_key(seconds: float) -> str:
    """Return the name of a retry tier, such as `30s`."""
    return f"{seconds:g}s"
