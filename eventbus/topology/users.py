"""Broker users with the minimum of permissions, derived from the services."""

from collections.abc import Sequence
from dataclasses import dataclass

from kombu.entity import Exchange

from eventbus.topology.service import Bus, Service

#: The exchange to which workers publish their task events, for monitoring. Celery defines its name.
TASK_EVENTS = Exchange("celeryev", "topic", durable=True, no_declare=True)

#: A pattern that matches the queues that monitoring declares for itself and binds to `TASK_EVENTS`.
#: Celery names each queue with a UUID, and the broker deletes the queue with its connection.
MONITOR_QUEUE = rf"{TASK_EVENTS.name}\.[0-9a-f-]{{36}}"


@dataclass(frozen=True, kw_only=True)
class User:
    """A broker user. Permissions are regular expressions of object names, `topics` of types."""

    name: str
    configure: str = "^$"
    write: str = "^$"
    read: str = "^$"
    topics: str = "^$"
    tags: tuple[str, ...] = ()


def users(bus: Bus, services: Sequence[Service]) -> tuple[User, ...]:
    """Return the broker users of a system: one for each service, and users for operations."""
    return (*(_service_user(s) for s in services), *_operators(bus, services))


def _service_user(service: Service) -> User:
    writes = [service.bus.events.name] * bool(service.publishes)
    writes += [service.retry_exchange, TASK_EVENTS.name] * bool(service.consumes)
    reads = list(service.queues) * bool(service.consumes)
    reads += [service.bus.stream] * (service.reads_stream or service.can_overflow)
    reads += [service.overflow] * service.can_overflow
    reads += [service.tick_queue(tick) for tick in service.ticks]
    return User(
        name=service.name,
        write=_any_of(writes),
        read=_any_of(reads),
        topics=_any_of(service.published_types),
    )


def _operators(bus: Bus, services: Sequence[Service]) -> tuple[User, ...]:
    return (
        User(name="scheduler", write=_any_of([bus.ticks.name])),
        _monitor(),
        _console([s for s in services if s.consumes]),
        # This user reads past events, and publishes them to the queue of a service that subscribes.
        User(name="replayer", write=_any_of(["amq.default"]), read=_any_of([bus.stream])),
    )


def _console(consumers: Sequence[Service]) -> User:
    # This user reads parked messages, and publishes them to their queue through the default
    # exchange. The ledger, which also uses it, searches for events in the retry tiers, whose names
    # depend on a setting.
    parking_lots = _any_of([s.parking_lot for s in consumers])
    tiers = _any_of([s.retry_exchange for s in consumers]).replace("$", r"\.[0-9.]+s$")
    return User(
        name="console",
        tags=("monitoring",),
        write=_any_of(["amq.default"]),
        read=f"{parking_lots}|{tiers}" if consumers else "^$",
    )


def _monitor() -> User:
    # Binding a queue requires write permission on it, and read permission on the exchange. The
    # user's tag permits reading queue lengths from the management API: read permission on a queue
    # would include the permission to purge it.
    reads = _any_of([TASK_EVENTS.name])
    return User(
        name="monitor",
        tags=("monitoring",),
        configure=f"^{MONITOR_QUEUE}$",
        write=f"^{MONITOR_QUEUE}$",
        read=f"{reads}|^{MONITOR_QUEUE}$",
    )


def _any_of(names: Sequence[str]) -> str:
    alternatives = "|".join(name.replace(".", r"\.") for name in names)
    return f"^({alternatives})$" if names else "^$"
