"""`orderctl topology plan` and `orderctl topology apply` on a real broker."""

import pytest

from common.kombu_topology import topology
from console.settings import TopologySettings
from eventbus.topology.retry_schedule import RETRY_TIERS
from testkit.data.parked import parked
from testkit.processes.orderctl import orderctl, topology_differences
from testkit.servers.declaration import TIERS, declare
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.management import Management
from testkit.servers.vhosts import Vhost, fresh_vhost


def test_an_empty_vhost_is_filled_once(
    management: Management, operator_env: dict[str, str]
) -> None:
    env = operator_env | {"RETRY_TIERS": ",".join(map(str, RETRY_TIERS))}
    first = orderctl(env, "topology", "apply")
    assert first.exit_code == 0, first.output
    assert topology_differences(env) == []
    again = orderctl(env, "topology", "apply")

    assert (again.exit_code, again.stdout) == (0, "topology: nothing to change\n")
    queues = {queue["name"] for queue in management.send("GET", "queues").json()}
    assert queues == {queue.name for queue in topology().queues}


def test_the_vhosts_of_tests_are_filled(applied: dict[str, str], servers: Infrastructure) -> None:
    # Given a second vhost, declared from what the broker has in the first one
    with fresh_vhost(servers) as second:
        secrets_dir = servers.secrets_dir
        declare(
            TopologySettings(**second.administrator, secrets_dir=secrets_dir, retry_tiers=TIERS)
        )

        # Then neither differs from the code
        assert topology_differences(applied | {"BROKER_VHOST": second.name}) == []
    assert topology_differences(applied) == []


def test_a_missing_vhost_is_reported_by_plan_and_created_by_apply(
    management: Management, applied: dict[str, str]
) -> None:
    env = applied | {"BROKER_VHOST": f"{management.vhost}-new"}
    try:
        planned = orderctl(env, "topology", "plan")
        applied_result = orderctl(env, "topology", "apply")
        again = orderctl(env, "topology", "plan")
    finally:
        management.send_global("DELETE", "vhosts", env["BROKER_VHOST"])

    assert planned.exit_code == 1
    assert planned.stderr.count("\n") == 1
    assert env["BROKER_VHOST"] in planned.stderr
    assert (applied_result.exit_code, again.exit_code) == (0, 0)


def test_removed_objects_are_restored(management: Management, applied: dict[str, str]) -> None:
    management.send("DELETE", "queues", "order.dlq")
    management.send(
        "DELETE", "bindings", "e", "orders.topic", "q", "inventory.queue", "order.created"
    )
    management.send("DELETE", "topic-permissions", "inventory")

    reported = topology_differences(applied)

    assert "queue order.dlq: missing" in reported
    assert "binding orders.topic -[order.created]-> inventory.queue: missing" in reported
    assert "topic permission inventory: missing" in reported
    assert orderctl(applied, "topology", "apply").exit_code == 0
    assert topology_differences(applied) == []


def test_widened_permissions_are_narrowed(management: Management, applied: dict[str, str]) -> None:
    management.send("PUT", "permissions", "order", configure=".*", write=".*", read=".*")

    assert [line.split(":")[0] for line in topology_differences(applied)] == ["permission order"]

    assert orderctl(applied, "topology", "apply").exit_code == 0
    permission = management.send("GET", "permissions", "order").json()
    assert permission["configure"] == "^$"


def test_a_changed_password_is_reset_and_never_shown(
    management: Management, applied: dict[str, str]
) -> None:
    management.send_global("PUT", "users", "monitor", password="an-old-secret", tags="monitoring")

    result = orderctl(applied, "topology", "apply")

    assert result.stdout == "changed user monitor: its password differs\n"
    assert topology_differences(applied) == []


def test_guest_is_removed(management: Management, applied: dict[str, str]) -> None:
    management.send_global("PUT", "users", "guest", password="guest", tags="administrator")

    assert topology_differences(applied) == ["user guest: must not exist"]
    assert orderctl(applied, "topology", "apply").stdout == "removed user guest\n"
    assert management.send_global("GET", "users", "guest").status_code == 404


def test_immutable_differences_are_left_and_the_rest_is_applied(
    management: Management, applied: dict[str, str]
) -> None:
    management.send("DELETE", "queues", "order.dlq")
    management.send("PUT", "queues", "order.dlq", durable=True)
    management.send("DELETE", "exchanges", "order.retry")
    management.send("PUT", "exchanges", "order.retry", type="fanout", durable=True)
    management.send("DELETE", "queues", "order.relay")

    result = orderctl(applied, "topology", "apply")

    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    left = [line for line in lines if line.startswith("left ")]
    assert len(left) == 2
    assert all("delete it" in line and "apply again" in line for line in left)
    assert "created queue order.relay" in lines
    # No queue is bound to the fanout exchange, which would copy retries to every tier.
    assert not any("order.retry -[" in line for line in lines)

    management.send("DELETE", "queues", "order.dlq")
    management.send("DELETE", "exchanges", "order.retry")
    assert orderctl(applied, "topology", "apply").exit_code == 0
    assert topology_differences(applied) == []


def test_apply_declares_nothing_before_all_nodes_run(vhost: Vhost, applied: dict[str, str]) -> None:
    env = applied | {"BROKER_NODES": "3"}
    vhost.request("DELETE", f"/queues/{vhost.name}/orders.stream")

    result = orderctl(env, "topology", "apply")

    assert (result.exit_code, "1 of BROKER_NODES=3 nodes are running" in result.stderr) == (1, True)
    queues = vhost.request("GET", f"/queues/{vhost.name}").json()
    assert "orders.stream" not in {queue["name"] for queue in queues}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"BROKER_ADMIN_PASSWORD": "wrong"}, "rejects user"),
        ({"BROKER_ADMIN_URL": "https://127.0.0.1:1"}, "does not respond"),
        ({"BROKER_VHOST": "nowhere"}, "no vhost 'nowhere'"),
    ],
)
def test_an_unusable_broker_is_reported_in_one_line(
    operator_env: dict[str, str], changes: dict[str, str], part: str
) -> None:
    result = orderctl(operator_env | changes, "topology", "plan")

    assert (result.exit_code, result.stdout) == (1, "")
    assert part in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_unresponsive_node_is_skipped(vhost: Vhost, applied: dict[str, str]) -> None:
    # Given two addresses, the first of which does not respond over HTTP or AMQP
    env = applied | {"BROKER_ADMIN_URL": f"https://127.0.0.2:1,{vhost.management_url}"}

    # Then the second one is used
    assert orderctl(env, "topology", "plan").exit_code == 0
    assert parked(env) == []
