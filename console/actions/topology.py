"""Compares the broker with the topology in the code, and makes it so."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from common.kombu_topology import CONSUMERS, topology
from console.broker import permissions_diff, replicas, topology_diff
from console.broker.management import Management
from console.broker.queue_replacement import replace
from console.broker.state import BrokerState
from console.broker.topology_diff import MISSING, Difference, Request
from console.errors import ActionError
from console.settings import TopologySettings
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service
from eventbus.topology.users import MONITOR_QUEUE

#: What RabbitMQ and Celery create for themselves; the default exchange has no name.
_FOREIGN = re.compile(rf"|amq\..*|{MONITOR_QUEUE}|(.*\.)?celery\.pidbox")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The differences, in the order in which to remove them, and what could not be compared."""

    differences: tuple[Difference, ...]
    #: What the vhost holds besides: the code does not know it, and nothing touches it.
    unmanaged: tuple[str, ...]
    #: What could not be compared, and why.
    unchecked: tuple[str, ...]


def plan(settings: TopologySettings) -> Plan:
    """Return how the broker differs from the code; changes nothing.

    Raises `ActionError` when the broker cannot be asked, has no such vhost or too few nodes.
    """
    with Management(settings) as broker:
        if not broker.has_vhost():
            raise ActionError(
                f"the broker has no vhost {broker.vhost!r}: `orderctl topology apply` creates it"
            )
        return _plan(settings, broker)


def apply(settings: TopologySettings, *, prune: bool = False) -> Iterator[Difference]:
    """Make the broker as the code says; yields each difference after its removal.

    Those with a `remedy` are yielded too and left as they are: what holds messages is never
    deleted, nor, without `prune`, a binding that may be another release's. A queue that is replaced
    was emptied into another one before. Raises `ActionError`;
    what was changed until then stays, and the next run goes on.
    """
    with Management(settings) as broker:
        _require_nodes(settings, broker)
        if not broker.has_vhost():
            request = Request(method="PUT", path=("vhosts", broker.vhost), body={})
            missing = Difference(kind="vhost", name=broker.vhost, problem=MISSING, request=request)
            yield _remove(broker, missing)
        for found in _plan(settings, broker, prune=prune).differences:
            if found.replaces:
                yield _replace(settings, broker, found.replaces, found)
            else:
                yield _remove(broker, found)


def _replace(
    settings: TopologySettings, broker: Management, service: Service, found: Difference
) -> Difference:
    wanted = topology(retry_tiers=settings.retry_tiers)
    (queue,) = (queue for queue in wanted.queues if queue.name == service.queue)
    bindings = [binding for binding in wanted.bindings if binding.queue == service.queue]
    replace(settings, broker, service, queue, bindings)
    return found


def _remove(broker: Management, found: Difference) -> Difference:
    if found.request:
        broker.send(found.request.method, *found.request.path, body=found.request.body)
    return found


def _require_nodes(settings: TopologySettings, broker: Management) -> None:
    # What is declared on part of a cluster has replicas on that part only.
    running = [node["name"] for node in broker.get("nodes") if node.get("running", True)]
    if len(running) < settings.broker_nodes:
        raise ActionError(
            f"{len(running)} of BROKER_NODES={settings.broker_nodes} nodes run:"
            " nothing is declared before all do"
        )


def _plan(settings: TopologySettings, broker: Management, *, prune: bool = False) -> Plan:
    state = BrokerState.read(broker)
    wanted = topology(retry_tiers=settings.retry_tiers)
    passwords = {user.name: settings.broker_password(user.name) for user in wanted.users}
    # Rights first: without its own, the deployer can declare nothing in a new vhost.
    found = [
        *permissions_diff.differences(wanted, state, deployer=broker.user, passwords=passwords.get),
        *topology_diff.differences(wanted, state, prune=prune),
        *replicas.differences(wanted, state, broker.get("nodes")),
    ]
    return Plan(
        differences=tuple(found),
        unmanaged=tuple(_unmanaged(wanted, state, deployer=broker.user)),
        unchecked=tuple(
            f"password of user {name}: no file {name}.broker in {settings.secrets_dir}"
            for name, password in passwords.items()
            if password is None and name in state.users
        ),
    )


def _unmanaged(wanted: Topology, state: BrokerState, *, deployer: str) -> Iterator[str]:
    known = {
        "exchange": {exchange.name for exchange in wanted.exchanges},
        "queue": {queue.name for queue in wanted.queues} | {s.spare_queue for s in CONSUMERS},
        "user": {user.name for user in wanted.users} | {deployer, "guest"},
    }
    actual = {"exchange": state.exchanges, "queue": state.queues, "user": state.permissions}
    for kind, names in actual.items():
        for name in sorted(set(names) - known[kind]):
            if not _FOREIGN.fullmatch(name):
                yield f"{kind} {name}"
