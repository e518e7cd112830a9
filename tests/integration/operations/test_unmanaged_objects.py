"""`orderctl topology` leaves objects alone that are not in the code."""

import json
from dataclasses import replace

import pytest

from common.kombu_topology import SERVICES
from testkit.processes.orderctl import orderctl, topology_differences
from testkit.servers.management import Management
from testkit.versions.migrated import use_services


@pytest.mark.parametrize("routing_key", ["#", "", "a/b c%d~"])
def test_an_unknown_binding_stays_until_it_is_pruned(
    management: Management, applied: dict[str, str], routing_key: str
) -> None:
    management.send(
        "POST", "bindings", "e", "orders.topic", "q", "order.queue", routing_key=routing_key
    )
    name = f"binding orders.topic -[{routing_key}]-> order.queue: not in the code"

    # When the topology is applied
    result = orderctl(applied, "topology", "apply")

    # Then the binding is left
    assert (result.exit_code, result.stdout.startswith(f"left {name}; ")) == (0, True)
    assert topology_differences(applied) == [name]

    result = orderctl(applied, "topology", "apply", "--prune")

    assert result.stdout == f"removed binding orders.topic -[{routing_key}]-> order.queue\n"
    assert topology_differences(applied) == []


def test_an_unknown_binding_between_exchanges_is_pruned(
    management: Management, applied: dict[str, str]
) -> None:
    management.send(
        "POST", "bindings", "e", "orders.topic", "e", "amq.fanout", routing_key="order.#"
    )
    management.send("POST", "bindings", "e", "amq.fanout", "q", "order.queue", routing_key="x")

    assert len(topology_differences(applied)) == 2
    assert orderctl(applied, "topology", "apply", "--prune").exit_code == 0
    assert topology_differences(applied) == []


def test_monitoring_queues_and_their_exchange_bind_only_each_other(
    management: Management, applied: dict[str, str]
) -> None:
    monitor = "celeryev.01a20451-7749-7471-af99-c1c3cacdb60a"
    for queue in (monitor, "somebodys.tap"):
        management.send("PUT", "queues", queue, durable=True)
        management.send("POST", "bindings", "e", "celeryev", "q", queue, routing_key="#")
    management.send("POST", "bindings", "e", "orders.topic", "q", monitor, routing_key="#")

    assert topology_differences(applied) == [
        "binding celeryev -[#]-> somebodys.tap: not in the code",
        f"binding orders.topic -[#]-> {monitor}: not in the code",
    ]


def test_unknown_objects_are_listed_and_left_alone(
    management: Management, applied: dict[str, str]
) -> None:
    management.send("PUT", "queues", "somebodys.tap", durable=True)
    management.send("PUT", "queues", "a@b.celery.pidbox", durable=True)
    management.send("PUT", "exchanges", "celeryev", type="topic", durable=True)

    result = orderctl(applied, "topology", "plan", "--json")

    document = json.loads(result.stdout)
    assert (result.exit_code, document["drift"]) == (0, False)
    assert document["unmanaged"] == ["queue somebodys.tap"]
    orderctl(applied, "topology", "apply")
    assert management.send("GET", "queues", "somebodys.tap").status_code == 200


def test_an_older_release_leaves_newer_bindings_in_place(
    management: Management, applied: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a release without the fraud check and with fewer consumed types
    older = tuple(
        replace(service, consumes=service.consumes[:1])
        for service in SERVICES
        if service.name != "fraud"
    )
    use_services(monkeypatch, older)
    before = management.send("GET", "bindings").json()
    queues = management.send("GET", "queues").json()

    # When it is deployed again
    result = orderctl(applied, "topology", "apply")

    # Then the newer bindings and queues are left
    assert result.exit_code == 0
    assert "left binding orders.topic -[order.created]-> fraud.queue: not in the code" in (
        result.stdout
    )
    assert management.send("GET", "bindings").json() == before
    assert {q["name"] for q in management.send("GET", "queues").json()} == {
        q["name"] for q in queues
    }


def test_a_removed_retry_tier_is_unbound_and_unmanaged(
    management: Management, applied: dict[str, str]
) -> None:
    env = applied | {"RETRY_TIERS": "1"}

    result = orderctl(env, "topology", "apply", "--prune")

    assert result.exit_code == 0
    assert "removed binding order.retry -[600s]-> order.retry.600s" in result.stdout
    document = json.loads(orderctl(env, "topology", "plan", "--json").stdout)
    assert "queue order.retry.600s" in document["unmanaged"]
