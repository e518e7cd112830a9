"""A queue with too few replicas is reported, with the command that adds one."""

from typing import Any

import pytest

from common.kombu_topology import topology
from console.broker import replicas
from console.broker.state import BrokerState

TOPOLOGY = topology()


def state(**members: list[str] | None) -> BrokerState:
    queues: dict[str, Any] = {
        name.replace("_", "."): {"members": nodes} if nodes else {}
        for name, nodes in members.items()
    }
    return BrokerState(vhost="orders", exchanges={}, queues=queues, bindings=())


def nodes(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


def test_a_stream_with_too_few_replicas_is_reported_with_a_fix() -> None:
    differences = [
        *replicas.differences(TOPOLOGY, state(orders_stream=["a"]), nodes("c", "a", "b", "d"))
    ]

    assert [(d.name, d.problem, d.remedy) for d in differences] == [
        (
            "orders.stream",
            "1 of 3",
            "run on a node: rabbitmq-streams add_replica --vhost orders orders.stream b;"
            " rabbitmq-streams add_replica --vhost orders orders.stream c",
        )
    ]


def test_a_quorum_queue_on_two_nodes_needs_both() -> None:
    differences = [*replicas.differences(TOPOLOGY, state(order_queue=["a"]), nodes("a", "b"))]

    assert [(d.name, d.problem, d.remedy) for d in differences] == [
        (
            "order.queue",
            "1 of 2",
            "run on a node: rabbitmq-queues add_member --vhost orders order.queue b",
        )
    ]


@pytest.mark.parametrize(
    ("members", "names"),
    [(["a"], ["a"]), (["a", "b", "c"], ["a", "b", "c", "d", "e"]), (None, ["a", "b", "c"])],
)
def test_enough_or_unknown_replicas_are_not_a_difference(
    members: list[str] | None, names: list[str]
) -> None:
    assert [*replicas.differences(TOPOLOGY, state(order_queue=members), nodes(*names))] == []
