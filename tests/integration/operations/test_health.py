"""`orderctl health` on a real broker: findings, texts and exit status."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from common.kombu_topology import CONSUMERS, FRAUD, SERVICES, topology
from console.actions.health import Kind, ailing_nodes, broken_queues
from console.broker.state import BrokerState
from testkit.eventually import eventually
from testkit.processes.orderctl import orderctl
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

CONSUMED = [
    *(service.queue for service in CONSUMERS),
    *(service.tick_queue(tick) for service in SERVICES for tick in service.ticks),
]


def findings(env: dict[str, str]) -> set[tuple[str, str]]:
    """Return the kind and name of each finding, and check the text and exit status."""
    as_json, as_text = orderctl(env, "health", "--json"), orderctl(env, "health")
    document = json.loads(as_json.stdout)
    assert document["healthy"] == (as_json.exit_code == 0) == (not document["findings"])
    assert as_text.stdout.count("\n") == max(1, len(document["findings"]))
    return {(finding["kind"], finding["name"]) for finding in document["findings"]}


@contextmanager
def consumers(vhost: Vhost, *queues: str) -> Iterator[None]:
    with vhost.connect() as connection:
        for queue in queues:
            connection.default_channel.basic_consume(queue)
        yield


@pytest.fixture
def healthy(applied: dict[str, str], vhost: Vhost) -> Iterator[dict[str, str]]:
    """The environment of `orderctl` for a broker whose queues all have consumers."""
    with consumers(vhost, *CONSUMED):
        eventually(lambda: _assert_found(applied, set()))
        yield applied


def _assert_found(env: dict[str, str], expected: set[tuple[str, str]]) -> None:
    assert findings(env) == expected


def test_a_healthy_broker_has_no_findings(healthy: dict[str, str]) -> None:
    result = orderctl(healthy, "health")

    assert (result.exit_code, result.stdout) == (0, "broker: healthy\n")


def test_each_queue_without_a_consumer_is_reported(applied: dict[str, str]) -> None:
    assert findings(applied) == {("no_consumer", queue) for queue in CONSUMED}


def test_a_missing_queue_is_reported_with_its_bindings(
    healthy: dict[str, str], vhost: Vhost
) -> None:
    # When a queue is deleted
    vhost.request("DELETE", f"/queues/{vhost.name}/order.dlq")

    # Then it is reported, and so are its bindings
    bindings = [b for b in topology().bindings if b.queue == "order.dlq"]
    expected = {("missing_queue", "order.dlq")} | {
        ("missing_binding", f"{b.exchange} -[{b.routing_key}]-> order.dlq") for b in bindings
    }
    eventually(lambda: _assert_found(healthy, expected))


def test_a_missing_binding_is_reported(healthy: dict[str, str], vhost: Vhost) -> None:
    # When a binding is deleted
    path = f"/bindings/{vhost.name}/e/orders.topic/q/inventory.queue/order.created"
    vhost.request("DELETE", path)

    # Then it is reported
    expected = {("missing_binding", "orders.topic -[order.created]-> inventory.queue")}
    eventually(lambda: _assert_found(healthy, expected))


@pytest.mark.parametrize(
    ("kind", "command", "limit", "usual"),
    [
        ("memory_alarm", "set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"),
        ("disk_alarm", "set_disk_free_limit", "1000000GB", "500MB"),
    ],
)
def test_an_alarm_is_reported_while_it_lasts(
    healthy: dict[str, str],
    servers: Infrastructure,
    kind: str,
    command: str,
    limit: str,
    usual: str,
) -> None:
    # When there is an alarm
    with servers.limited(command, limit, usual):
        # Then it is reported
        eventually(lambda: _assert_found(healthy, {(kind, "orders@localhost")}))

    # And no longer when it is over
    eventually(lambda: _assert_found(healthy, set()))


def test_a_queue_that_dropped_events_is_reported(healthy: dict[str, str], vhost: Vhost) -> None:
    # When a queue has dropped an event
    vhost.publish(b"[]", exchange="", routing_key=FRAUD.overflow, headers={})

    # Then the finding names the process that should be running
    eventually(lambda: _assert_found(healthy, {("overflowed", FRAUD.queue)}))
    result = orderctl(healthy, "health")
    assert "is fraud-relay running?" in result.stdout


def test_an_unreachable_broker_is_reported_in_one_line(operator_env: dict[str, str]) -> None:
    # Given an unreachable broker
    env = operator_env | {"BROKER_ADMIN_URL": "https://127.0.0.1:1"}

    # When its health is checked
    result = orderctl(env, "health")

    # Then the only finding is its address
    assert result.exit_code == 1
    assert result.stdout.startswith("unreachable https://127.0.0.1:1/: ")
    assert result.stdout.count("\n") == 1
    assert findings(env) == {("unreachable", "https://127.0.0.1:1/")}


@pytest.mark.parametrize(
    ("online", "lost"),
    [(["a", "b", "c"], False), (["a", "b"], False), (["a"], True), ([], True)],
)
def test_a_queue_without_a_quorum_is_reported(online: list[str], lost: bool) -> None:
    # Given a queue with three replicas, as in the management API; the broker of the tests has one
    queue: dict[str, Any] = {"name": "q", "members": ["a", "b", "c"], "online": online}
    state = BrokerState(
        vhost="v",
        exchanges={},
        queues={"q": queue},
        bindings=(),
        users={},
        permissions={},
        topic_permissions={},
    )

    # Then the queue is reported if a majority is offline
    kinds = [finding.kind for finding in broken_queues(state)]
    assert kinds == ([Kind.LOST_QUORUM] if lost else [])


def test_a_stopped_node_is_reported() -> None:
    assert [f.kind for f in ailing_nodes([{"name": "a", "running": False}])] == [Kind.NODE_DOWN]
