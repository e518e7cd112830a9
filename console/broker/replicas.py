"""Queues and streams that have fewer replicas than the cluster allows."""

from collections.abc import Iterator, Sequence

from kombu.entity import Queue

from console.broker.state import BrokerState, Object
from console.broker.topology_diff import Difference
from eventbus.topology.objects import Topology

#: Number of replicas of a queue or stream in a cluster of at least as many nodes, of which one may
#: fail.
WANTED = 3

#: RabbitMQ's commands that add a replica, by type of queue. Its API cannot add a replica of a
#: stream.
_COMMANDS = {
    "quorum": "rabbitmq-queues add_member --vhost {vhost} {queue} {node}",
    "stream": "rabbitmq-streams add_replica --vhost {vhost} {queue} {node}",
}


def differences(
    topology: Topology, state: BrokerState, nodes: Sequence[Object]
) -> Iterator[Difference]:
    """Yield each queue and stream of the topology that was declared before the cluster grew."""
    names = sorted(node["name"] for node in nodes)
    wanted = min(WANTED, len(names))
    for queue in topology.queues:
        # While the broker has no statistics, the members of a stream are unknown.
        members = state.queues.get(queue.name, {}).get("members")
        if members and len(members) < wanted:
            others = [name for name in names if name not in members]
            yield Difference(
                kind="replicas",
                name=queue.name,
                problem=f"{len(members)} of {wanted}",
                remedy=_remedy(queue, state.vhost, others[: wanted - len(members)]),
            )


def _remedy(queue: Queue, vhost: str, nodes: Sequence[str]) -> str:
    command = _COMMANDS[queue.queue_arguments["x-queue-type"]]  # type: ignore[attr-defined]
    commands = (command.format(vhost=vhost, queue=queue.name, node=node) for node in nodes)
    return "run on a node: " + "; ".join(commands)
