"""The health check, which finds problems on the broker that stop events."""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from common.kombu_topology import SERVICES, divided, topology
from console.broker import division, queue_counts, replicas, topology_diff
from console.broker.management import Management
from console.broker.state import BrokerState, Object, figure
from console.broker.topology_diff import MISSING, Difference
from console.databases.pauses import Pauses
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service


class Kind(StrEnum):
    """The kinds of problems that a broker can have."""

    UNREACHABLE = "unreachable"
    #: Publishers are blocked until memory is freed.
    LOW_MEMORY = "memory_alarm"
    #: Publishers are blocked until disk space is freed.
    LOW_DISK = "disk_alarm"
    NODE_DOWN = "node_down"
    MISSING_EXCHANGE = "missing_exchange"
    MISSING_QUEUE = "missing_queue"
    #: A service does not receive events that it consumes.
    MISSING_BINDING = "missing_binding"
    #: The messages of a queue are not consumed.
    NO_CONSUMER = "no_consumer"
    #: A queue was full and has dropped events, and the process that reads them from the stream has
    #: not recorded the drop yet.
    OVERFLOWED = "overflowed"
    #: Fewer than a majority of a queue's replicas are available, so the queue neither accepts nor
    #: delivers messages.
    LOST_QUORUM = "lost_quorum"
    #: A queue or stream has fewer replicas than the cluster allows, so the loss of one node may
    #: lose it.
    FEW_REPLICAS = "few_replicas"
    #: A queue has reached half of its limit. At the limit, the broker rejects events.
    HALF_FULL = "half_full"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem, and the object that has it."""

    kind: Kind
    name: str
    text: str

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.kind} {self.name}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class BrokerHealth:
    """The state and the problems of a broker that responds."""

    findings: tuple[Finding, ...]
    #: Queues whose consumers the broker does not report, which is neither a finding nor a sign of
    #: health.
    unknown: tuple[str, ...]
    #: Other differences from the code, harmless so far; users and permissions are not compared.
    drift: tuple[Difference, ...]
    #: The services, with the numbers of parts of their queues on the broker.
    services: tuple[Service, ...]
    state: BrokerState


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The problems of a broker, if any, and the queues without a consumer count."""

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...] = ()


def check(settings: BrokerAdminSettings) -> Checked:
    """Return the problems of the broker; an unreachable broker is one finding."""
    try:
        with Management(settings) as broker:
            result = inspect(settings, broker)
    except ActionError as error:
        name = ", ".join(str(url) for url in settings.broker_admin_url)
        return Checked(findings=(Finding(kind=Kind.UNREACHABLE, name=name, text=str(error)),))
    return Checked(findings=result.findings, unknown=result.unknown)


def inspect(settings: BrokerAdminSettings, broker: Management) -> BrokerHealth:
    """Return the state and the problems of the broker, as a user with the tag `monitoring`.

    Raises `ActionError` if the broker cannot be queried.
    """
    nodes = broker.get("nodes")
    alarms = broker.alarms()
    state = BrokerState.read(broker, with_users=False)
    numbers = division.actual(state, settings.parts)
    services = divided(SERVICES, numbers)
    wanted = topology(retry_tiers=settings.retry_tiers, parts=numbers)
    state = _with_consumers(settings, state, services)
    findings = (
        *ailing_nodes(nodes, alarms, settings.broker_nodes),
        *missing(wanted, state),
        *broken_queues(state, services),
        *few_replicas(wanted, state, nodes),
    )
    differences = (
        *topology_diff.differences(wanted, state),
        *division.differences(state, settings.parts),
    )
    drift = tuple(difference for difference in differences if difference.problem != MISSING)
    unknown = uncounted(state, services)
    return BrokerHealth(
        findings=findings, unknown=unknown, drift=drift, services=services, state=state
    )


def _with_consumers(
    settings: BrokerAdminSettings, state: BrokerState, services: Sequence[Service]
) -> BrokerState:
    """Return the state; consumers that the API does not report are counted over AMQP."""
    if not (unknown := uncounted(state, services)):
        return state
    counts = queue_counts.consumers(settings, unknown)
    counted = {name: {**state.queues[name], "consumers": count} for name, count in counts.items()}
    return replace(state, queues={**state.queues, **counted})


def uncounted(state: BrokerState, services: Sequence[Service] = SERVICES) -> tuple[str, ...]:
    """Return the queues that must have a consumer but whose number of consumers is unknown."""
    return tuple(
        name
        for service in services
        for name, _ in _consumed(service)
        if name in state.queues and figure(state.queues[name], "consumers") is None
    )


def without_paused(findings: Iterable[Finding], pauses: Pauses) -> tuple[Finding, ...]:
    """Return the findings except the missing consumers of services that operators have paused."""
    return tuple(
        each for each in findings if each.kind is not Kind.NO_CONSUMER or each.name not in pauses
    )


def ailing_nodes(
    nodes: Sequence[Object], alarms: Set[tuple[str, str]] = frozenset(), wanted: int = 1
) -> Iterator[Finding]:
    """Yield each node that is down, and each alarm of the running nodes.

    `alarms` are the alarms in effect, `wanted` is the number of nodes that the cluster must have.
    """
    if len(nodes) < wanted:
        text = f"the cluster has {len(nodes)} of BROKER_NODES={wanted} nodes"
        yield Finding(kind=Kind.NODE_DOWN, name="cluster", text=text)
    for node in nodes:
        name = node["name"]
        if not node.get("running", True):
            yield Finding(kind=Kind.NODE_DOWN, name=name, text="is not running")
        if (name, "memory") in alarms:
            used, limit = _mb(node, "mem_used"), _mb(node, "mem_limit")
            text = f"uses {used} of {limit}; publishers are blocked"
            yield Finding(kind=Kind.LOW_MEMORY, name=name, text=text)
        if (name, "disk") in alarms:
            text = (
                f"has {_mb(node, 'disk_free')} free, requires {_mb(node, 'disk_free_limit')}; "
                "publishers are blocked"
            )
            yield Finding(kind=Kind.LOW_DISK, name=name, text=text)


def missing(wanted: Topology, state: BrokerState) -> Iterator[Finding]:
    """Yield each exchange, queue and binding that is missing."""
    for difference in topology_diff.differences(wanted, state):
        if difference.problem == MISSING:
            kind = Kind(f"missing_{difference.kind}")
            text = "does not exist; orderctl topology apply creates it"
            yield Finding(kind=kind, name=difference.name, text=text)


def few_replicas(
    wanted: Topology, state: BrokerState, nodes: Sequence[Object]
) -> Iterator[Finding]:
    """Yield each queue and stream that was declared before the cluster grew."""
    for difference in replicas.differences(wanted, state, nodes):
        text = f"{difference.problem} replicas; {difference.remedy}"
        yield Finding(kind=Kind.FEW_REPLICAS, name=difference.name, text=text)


def broken_queues(state: BrokerState, services: Sequence[Service] = SERVICES) -> Iterator[Finding]:
    """Yield each queue that lacks a majority of its replicas, is half full, or has no consumer."""
    for queue in state.queues.values():
        members, online = queue.get("members", ()), queue.get("online", ())
        majority = len(members) // 2 + 1
        if members and len(online) < majority:
            text = (
                f"{len(online)} of {len(members)} replicas are available, {majority} are required"
            )
            yield Finding(kind=Kind.LOST_QUORUM, name=queue["name"], text=text)
        limit = queue.get("arguments", {}).get("x-max-length")
        # A tick queue is limited to one tick, the newest.
        if limit and limit > 1 and (figure(queue, "messages") or 0) * 2 >= limit:
            text = f"holds {figure(queue, 'messages')} messages; its limit is {limit}"
            yield Finding(kind=Kind.HALF_FULL, name=queue["name"], text=text)
    for service in services:
        yield from _overflowed(service, state)
        for name, process in _consumed(service):
            if figure(state.queues.get(name), "consumers") == 0:
                text = f"has no consumer; is {process} running?"
                yield Finding(kind=Kind.NO_CONSUMER, name=name, text=text)


def _overflowed(service: Service, state: BrokerState) -> Iterator[Finding]:
    marker = state.queues.get(service.overflow)
    if service.can_overflow and marker and figure(marker, "messages"):
        processes = " or ".join(f"{service.name}-{tick}" for tick in service.ticks)
        text = f"was full and dropped events, which are in the stream; is {processes} running?"
        yield Finding(kind=Kind.OVERFLOWED, name=service.queue, text=text)


def _consumed(service: Service) -> Iterator[tuple[str, str]]:
    for part, queue in enumerate(service.queues if service.consumes else ()):
        yield queue, f"{service.name}-worker" + f" with WORKER_PART={part}" * (service.parts > 1)
    for tick in service.ticks:
        yield service.tick_queue(tick), f"{service.name}-{tick}"


def _mb(node: Object, name: str) -> str:
    value = figure(node, name)
    return "an unknown amount" if value is None else f"{value / 1_000_000:.0f} MB"
