"""Comparing the broker with the topology in the code, and applying that topology."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from common.kombu_topology import CONSUMERS, topology
from console.broker import division, permissions_diff, replicas, topology_diff
from console.broker.management import Management
from console.broker.queue_replacement import replace
from console.broker.state import BrokerState
from console.broker.topology_diff import MISSING, Difference, Request
from console.errors import ActionError
from console.settings import TopologySettings
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service
from eventbus.topology.users import MONITOR_QUEUE

#: Names that RabbitMQ and Celery create for themselves; the default exchange has an empty name.
_FOREIGN = re.compile(rf"|amq\..*|{MONITOR_QUEUE}|(.*\.)?celery\.pidbox")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The differences, in the order of their removal, and the objects that were not compared."""

    differences: tuple[Difference, ...]
    #: Other objects of the vhost, which are not in the code and are never changed.
    unmanaged: tuple[str, ...]
    #: The objects that could not be compared, with the reason.
    unchecked: tuple[str, ...]


def plan(settings: TopologySettings) -> Plan:
    """Return the differences between the broker and the code; change nothing.

    Raises `ActionError` if the broker cannot be queried, or has no such vhost.
    """
    with Management(settings) as broker:
        if not broker.has_vhost():
            raise ActionError(
                f"the broker has no vhost {broker.vhost!r}: `orderctl topology apply` creates it"
            )
        return _plan(settings, broker)


def apply(settings: TopologySettings, *, prune: bool = False) -> Iterator[Difference]:
    """Make the broker match the code; yield each difference after its removal.

    Differences with a `remedy` are also yielded, but left unchanged: an object that holds messages
    is never deleted, nor, without `prune`, a binding that another release may need. A queue is
    emptied into another queue before it is replaced. Raises `ActionError`, for example if too few
    nodes run; earlier changes stay, and the next run continues.
    """
    with Management(settings) as broker:
        _require_nodes(settings, broker)
        if not broker.has_vhost():
            request = Request(method="PUT", path=("vhosts", broker.vhost), body={})
            missing = Difference(kind="vhost", name=broker.vhost, problem=MISSING, request=request)
            yield _remove(broker, missing)
        for difference in _plan(settings, broker, prune=prune).differences:
            if difference.replaces:
                yield _replace(settings, broker, difference.replaces, difference)
            else:
                yield _remove(broker, difference)


def _replace(
    settings: TopologySettings, broker: Management, service: Service, difference: Difference
) -> Difference:
    numbers = division.actual(BrokerState.read(broker), settings.parts)
    wanted = topology(retry_tiers=settings.retry_tiers, parts=numbers)
    (queue,) = (queue for queue in wanted.queues if queue.name == service.queue)
    bindings = [binding for binding in wanted.bindings if binding.queue == service.queue]
    replace(settings, broker, service, queue, bindings)
    return difference


def _remove(broker: Management, difference: Difference) -> Difference:
    if request := difference.request:
        broker.send(request.method, *request.path, body=request.body)
    return difference


def _require_nodes(settings: TopologySettings, broker: Management) -> None:
    # Queues that are declared on part of a cluster have replicas on that part only.
    running = [node["name"] for node in broker.get("nodes") if node.get("running", True)]
    if len(running) < settings.broker_nodes:
        raise ActionError(
            f"{len(running)} of BROKER_NODES={settings.broker_nodes} nodes are running:"
            " nothing is declared until all are"
        )


def _plan(settings: TopologySettings, broker: Management, *, prune: bool = False) -> Plan:
    state = BrokerState.read(broker)
    # A different number of parts is reported separately, and only `scale` changes it.
    numbers = division.actual(state, settings.parts)
    wanted = topology(retry_tiers=settings.retry_tiers, parts=numbers)
    passwords = {user.name: settings.broker_password(user.name) for user in wanted.users}
    # Permissions come first, because without them, the deployer cannot declare objects in a new
    # vhost.
    differences = [
        *permissions_diff.differences(wanted, state, deployer=broker.user, passwords=passwords.get),
        *topology_diff.differences(wanted, state, prune=prune),
        *replicas.differences(wanted, state, broker.get("nodes")),
        *division.differences(state, settings.parts),
    ]
    return Plan(
        differences=tuple(differences),
        unmanaged=tuple(_unmanaged(wanted, state, deployer=broker.user)),
        unchecked=tuple(
            f"password of user {name}: {settings.secrets_dir} has no file {name}.broker"
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
