"""Looks at the broker, and says what keeps events from flowing."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum

from common.kombu_topology import SERVICES, topology
from console.broker import queue_counts, replicas, topology_diff
from console.broker.management import Management
from console.broker.state import BrokerState, Object, figure
from console.broker.topology_diff import MISSING, Difference
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service


class Kind(StrEnum):
    """What can be wrong with a broker."""

    UNREACHABLE = "unreachable"
    #: Publishers wait until memory is free again.
    LOW_MEMORY = "memory_alarm"
    #: Publishers wait until disk is free again.
    LOW_DISK = "disk_alarm"
    NODE_DOWN = "node_down"
    MISSING_EXCHANGE = "missing_exchange"
    MISSING_QUEUE = "missing_queue"
    #: A service does not get events that it waits for.
    MISSING_BINDING = "missing_binding"
    #: Nobody takes what comes into the queue.
    NO_CONSUMER = "no_consumer"
    #: A queue was full and dropped events, and the process that takes them from the stream has not
    #: taken note.
    OVERFLOWED = "overflowed"
    #: Less than a majority of a queue's replicas is there: it takes and gives nothing.
    LOST_QUORUM = "lost_quorum"
    #: A queue or stream has fewer replicas than the cluster has nodes: one node's end is its end.
    FEW_REPLICAS = "few_replicas"
    #: Half of a queue's limit is used; beyond the limit the broker refuses events.
    HALF_FULL = "half_full"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, and where."""

    kind: Kind
    name: str
    text: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.kind} {self.name}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a broker that answers."""

    findings: tuple[Finding, ...]
    #: Queues whose consumers the broker does not tell: neither a finding nor a sign of health.
    unknown: tuple[str, ...]
    #: What differs from the code besides, and does no harm yet; users and rights are not compared.
    drift: tuple[Difference, ...]
    state: BrokerState


@dataclass(frozen=True, kw_only=True)
class Checked:
    """All that is wrong with the broker, nothing when it is well, and what could not be told."""

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...] = ()


def check(settings: BrokerAdminSettings) -> Checked:
    """Return what is wrong; that the broker cannot be asked is one finding."""
    try:
        seen = look(settings)
    except ActionError as error:
        name = ", ".join(str(url) for url in settings.broker_admin_url)
        return Checked(findings=(Finding(kind=Kind.UNREACHABLE, name=name, text=str(error)),))
    return Checked(findings=seen.findings, unknown=seen.unknown)


def look(settings: BrokerAdminSettings) -> Look:
    """Return what is wrong and what is there, for a user with the tag `monitoring`.

    Raises `ActionError` when the broker cannot be asked.
    """
    wanted = topology(retry_tiers=settings.retry_tiers)
    with Management(settings) as broker:
        nodes = broker.get("nodes")
        alarms = broker.alarms()
        state = BrokerState.read(broker, with_users=False)
    state = _with_consumers(settings, state)
    findings = (
        *ailing_nodes(nodes, alarms, settings.broker_nodes),
        *missing(wanted, state),
        *broken_queues(state),
        *few_replicas(wanted, state, nodes),
    )
    differences = topology_diff.differences(wanted, state)
    drift = tuple(found for found in differences if found.problem != MISSING)
    return Look(findings=findings, unknown=uncounted(state), drift=drift, state=state)


def _with_consumers(settings: BrokerAdminSettings, state: BrokerState) -> BrokerState:
    """Return the state with the consumers that the API does not tell, as far as AMQP does."""
    if not (unknown := uncounted(state)):
        return state
    found = queue_counts.consumers(settings, unknown)
    counted = {name: {**state.queues[name], "consumers": count} for name, count in found.items()}
    return replace(state, queues={**state.queues, **counted})


def uncounted(state: BrokerState) -> tuple[str, ...]:
    """Return the queues that must have a consumer, and of which it is not known."""
    return tuple(
        name
        for service in SERVICES
        for name, _ in _consumed(service)
        if name in state.queues and figure(state.queues[name], "consumers") is None
    )


def ailing_nodes(
    nodes: Sequence[Object], alarms: Set[tuple[str, str]] = frozenset(), wanted: int = 1
) -> Iterator[Finding]:
    """Yield each node that is down, and each alarm of the others.

    `alarms` are those in effect, `wanted` is how many nodes the cluster must have.
    """
    if len(nodes) < wanted:
        text = f"the cluster has {len(nodes)} of BROKER_NODES={wanted} nodes"
        yield Finding(kind=Kind.NODE_DOWN, name="cluster", text=text)
    for node in nodes:
        name = node["name"]
        if not node.get("running", True):
            yield Finding(kind=Kind.NODE_DOWN, name=name, text="does not run")
        if (name, "memory") in alarms:
            text = f"uses {_mb(node, 'mem_used')} of {_mb(node, 'mem_limit')}; publishers wait"
            yield Finding(kind=Kind.LOW_MEMORY, name=name, text=text)
        if (name, "disk") in alarms:
            text = (
                f"has {_mb(node, 'disk_free')} free, needs {_mb(node, 'disk_free_limit')}; "
                "publishers wait"
            )
            yield Finding(kind=Kind.LOW_DISK, name=name, text=text)


def missing(wanted: Topology, state: BrokerState) -> Iterator[Finding]:
    """Yield each exchange, queue and binding that is not there."""
    for found in topology_diff.differences(wanted, state):
        if found.problem == MISSING:
            kind = Kind(f"missing_{found.kind}")
            text = "is not there; orderctl topology apply makes it"
            yield Finding(kind=kind, name=found.name, text=text)


def few_replicas(
    wanted: Topology, state: BrokerState, nodes: Sequence[Object]
) -> Iterator[Finding]:
    """Yield each queue and stream that was declared before the cluster grew."""
    for found in replicas.differences(wanted, state, nodes):
        text = f"{found.problem} replicas; {found.remedy}"
        yield Finding(kind=Kind.FEW_REPLICAS, name=found.name, text=text)


def broken_queues(state: BrokerState, services: Sequence[Service] = SERVICES) -> Iterator[Finding]:
    """Yield each queue without a majority of its replicas, half full, or without its consumer."""
    for queue in state.queues.values():
        members, online = queue.get("members", ()), queue.get("online", ())
        majority = len(members) // 2 + 1
        if members and len(online) < majority:
            text = f"{len(online)} of {len(members)} replicas are there, {majority} are needed"
            yield Finding(kind=Kind.LOST_QUORUM, name=queue["name"], text=text)
        limit = queue.get("arguments", {}).get("x-max-length")
        # A tick queue's limit is one tick, the newest.
        if limit and limit > 1 and (figure(queue, "messages") or 0) * 2 >= limit:
            text = f"holds {figure(queue, 'messages')} messages of {limit}"
            yield Finding(kind=Kind.HALF_FULL, name=queue["name"], text=text)
    for service in services:
        yield from _overflowed(service, state)
        for name, process in _consumed(service):
            if figure(state.queues.get(name), "consumers") == 0:
                text = f"nobody takes its messages; is {process} there?"
                yield Finding(kind=Kind.NO_CONSUMER, name=name, text=text)


def _overflowed(service: Service, state: BrokerState) -> Iterator[Finding]:
    marker = state.queues.get(service.overflow)
    if service.can_overflow and marker and figure(marker, "messages"):
        processes = " or ".join(f"{service.name}-{tick}" for tick in service.ticks)
        text = f"was full and dropped events, which wait in the stream; is {processes} there?"
        yield Finding(kind=Kind.OVERFLOWED, name=service.queue, text=text)


def _consumed(service: Service) -> Iterator[tuple[str, str]]:
    if service.consumes:
        yield service.queue, f"{service.name}-worker"
    for tick in service.ticks:
        yield service.tick_queue(tick), f"{service.name}-{tick}"


def _mb(node: Object, name: str) -> str:
    value = figure(node, name)
    return "an unknown amount" if value is None else f"{value / 1_000_000:.0f} MB"
