"""`orderctl health` on a real broker: what it finds, and what it says about it."""

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
    """The kind and the name of each finding, as JSON and as text, with the exit status."""
    told, plain = orderctl(env, "health", "--json"), orderctl(env, "health")
    document = json.loads(told.stdout)
    assert document["healthy"] == (told.exit_code == 0) == (not document["findings"])
    assert plain.stdout.count("\n") == max(1, len(document["findings"]))
    return {(found["kind"], found["name"]) for found in document["findings"]}


@contextmanager
def consumers(vhost: Vhost, *queues: str) -> Iterator[None]:
    with vhost.connect() as connection:
        for queue in queues:
            connection.default_channel.basic_consume(queue)
        yield


@pytest.fixture
def well(applied: dict[str, str], vhost: Vhost) -> Iterator[dict[str, str]]:
    """The environment of a broker whose queues all have their consumers."""
    with consumers(vhost, *CONSUMED):
        eventually(lambda: _assert_found(applied, set()))
        yield applied


def _assert_found(env: dict[str, str], expected: set[tuple[str, str]]) -> None:
    assert findings(env) == expected


def test_a_broker_that_is_well_says_so(well: dict[str, str]) -> None:
    result = orderctl(well, "health")

    assert (result.exit_code, result.stdout) == (0, "broker: healthy\n")


def test_each_queue_that_nobody_consumes_is_named(applied: dict[str, str]) -> None:
    assert findings(applied) == {("no_consumer", queue) for queue in CONSUMED}


def test_a_missing_queue_is_named_with_its_bindings(well: dict[str, str], vhost: Vhost) -> None:
    # when
    vhost.request("DELETE", f"/queues/{vhost.name}/order.dlq")

    # then
    bindings = [b for b in topology().bindings if b.queue == "order.dlq"]
    expected = {("missing_queue", "order.dlq")} | {
        ("missing_binding", f"{b.exchange} -[{b.routing_key}]-> order.dlq") for b in bindings
    }
    eventually(lambda: _assert_found(well, expected))


def test_a_missing_binding_is_named(well: dict[str, str], vhost: Vhost) -> None:
    # when
    path = f"/bindings/{vhost.name}/e/orders.topic/q/inventory.queue/order.created"
    vhost.request("DELETE", path)

    # then
    expected = {("missing_binding", "orders.topic -[order.created]-> inventory.queue")}
    eventually(lambda: _assert_found(well, expected))


@pytest.mark.parametrize(
    ("kind", "command", "limit", "usual"),
    [
        ("memory_alarm", "set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"),
        ("disk_alarm", "set_disk_free_limit", "1000000GB", "500MB"),
    ],
)
def test_an_alarm_is_named_while_it_lasts(
    well: dict[str, str],
    servers: Infrastructure,
    kind: str,
    command: str,
    limit: str,
    usual: str,
) -> None:
    # when
    with servers.limited(command, limit, usual):
        # then
        eventually(lambda: _assert_found(well, {(kind, "orders@localhost")}))

    # and when it is over
    eventually(lambda: _assert_found(well, set()))


def test_a_queue_that_dropped_events_is_named_until_its_process_takes_note(
    well: dict[str, str], vhost: Vhost
) -> None:
    # when
    vhost.publish(b"[]", exchange="", routing_key=FRAUD.overflow, headers={})

    # then
    eventually(lambda: _assert_found(well, {("overflowed", FRAUD.queue)}))
    result = orderctl(well, "health")
    assert "is fraud-relay running?" in result.stdout


def test_an_unreachable_broker_is_told_in_one_line(operator_env: dict[str, str]) -> None:
    # given
    env = operator_env | {"BROKER_ADMIN_URL": "https://127.0.0.1:1"}

    # when
    result = orderctl(env, "health")

    # then
    assert result.exit_code == 1
    assert result.stdout.startswith("unreachable https://127.0.0.1:1/: ")
    assert result.stdout.count("\n") == 1
    assert findings(env) == {("unreachable", "https://127.0.0.1:1/")}


@pytest.mark.parametrize(
    ("online", "lost"),
    [(["a", "b", "c"], False), (["a", "b"], False), (["a"], True), ([], True)],
)
def test_a_queue_without_a_majority_of_its_replicas_is_named(online: list[str], lost: bool) -> None:
    # given what the management API tells of a queue with three replicas; the test's broker has one
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

    # then
    found = [finding.kind for finding in broken_queues(state)]
    assert found == ([Kind.LOST_QUORUM] if lost else [])


def test_a_node_that_is_down_is_named() -> None:
    assert [f.kind for f in ailing_nodes([{"name": "a", "running": False}])] == [Kind.NODE_DOWN]
