"""A cluster has enough database connections and disk space, and its admission checks pass.

The admission checks are KEDA's webhook and the security level of the namespace.
"""

import copy
import re
from typing import Any

import pytest
import yaml

from celeryconfig import worker
from common.kombu_topology import CONSUMERS, topology
from deploy.k8s import programs
from deploy.local import REPOSITORY
from deploy.local.processes.programs import Health, Program
from eventbus.topology.limits import QUEUE_LIMIT, STREAM_BYTES
from order_app.settings import ApiSettings
from tests.support.keda import refusals
from tests.support.manifests import Manifest, built, every_folder, one, pods

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "kB": 10**3, "MB": 10**6, "GB": 10**9}

#: Bytes of an event with several lines, including its headers and the overhead of a quorum queue.
EVENT = 2_000

#: Connections of a relay, mailer or reader: work, deadline sweep, retention, metrics, and a spare.
TICKER = 5

#: Connections of a worker in addition to one for each child: metrics, and a spare.
WORKER = 2

#: Connections of the console: concurrent queries, and one for each request thread.
CONSOLE = 10 + 8

#: Connections of `orderctl database apply` and of operators with psql.
OPERATORS = 5

#: Connections that are reserved for superusers and for CloudNativePG.
RESERVED = 3 + 7


def size(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS.get(unit, 1)


# --- The database's connections -----------------------------------------------------------------


def connections(program: Program) -> int:
    """Return the most connections of one pod of a program."""
    if program.name == "api":
        # Two processes; each has a separate pool for placing orders.
        return 2 * 2 * int(ApiSettings.model_fields["api_pool_size"].default)
    if program.name == "console":
        return CONSOLE
    if "orders/database" not in programs._labels(program):
        return 0
    assert program.health is Health.HEARTBEAT, program.name
    is_worker = program.name.endswith("-worker")
    return worker.worker_concurrency + WORKER if is_worker else TICKER


def most_pods(folder: str, program: Program) -> int:
    """Return the most pods of a program, including the one that a rollout adds."""
    for manifest in built(folder):
        if manifest["kind"] == "ScaledObject" and manifest["metadata"]["name"] == program.name:
            return int(manifest["spec"]["maxReplicaCount"]) + 1
    return int(one(folder, "Deployment", program.name)["spec"]["replicas"]) + 1


@every_folder
def test_the_database_has_a_connection_for_every_process(folder: str) -> None:
    # Given as many pods as KEDA starts at most
    needed = sum(most_pods(folder, p) * connections(p) for p in programs.HERE)

    # Then the database has room for their connections
    parameters = one(folder, "Cluster", "postgres")["spec"]["postgresql"]["parameters"]
    assert needed + OPERATORS + RESERVED <= int(parameters["max_connections"])


@pytest.mark.parametrize(
    "file",
    ["deploy/compose/postgres/postgresql.conf", "deploy/local/templates/postgresql.conf.j2"],
)
def test_a_local_database_has_a_connection_for_every_process(file: str) -> None:
    needed = sum(connections(program) for program in programs.HERE)

    (limit,) = re.findall(r"max_connections = (\d+)", (REPOSITORY / file).read_text())
    assert needed + OPERATORS + RESERVED <= int(limit)


# --- The broker's disk --------------------------------------------------------------------------


@every_folder
def test_the_disk_of_the_broker_fits_the_stream_and_full_queues(folder: str) -> None:
    # Given a node with a replica of everything, and every queue at its limit
    spec = one(folder, "RabbitmqCluster", "rabbitmq")["spec"]
    events = STREAM_BYTES + len(CONSUMERS) * QUEUE_LIMIT * EVENT
    text = spec["rabbitmq"]["additionalConfig"]
    (limit,) = re.findall(r"disk_free_limit.absolute = (\S+)", text)

    # Then a fifth is free for retries, parking lots and the broker's own data
    assert (events + size(limit)) * 1.2 <= size(spec["persistence"]["storage"])


@every_folder
def test_every_queue_has_a_limit_or_a_reason(folder: str) -> None:
    unlimited = [
        queue.name
        for queue in topology().queues
        if not {"x-max-length", "x-max-length-bytes", "x-message-ttl"} & {*queue.queue_arguments}  # type: ignore[attr-defined]
    ]

    assert unlimited == [service.parking_lot for service in CONSUMERS]


@every_folder
def test_the_topology_is_declared_only_when_all_nodes_run(folder: str) -> None:
    (job,) = (m for m in built(folder) if m["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {e["name"]: e["value"] for e in container["env"] if "value" in e}

    replicas = one(folder, "RabbitmqCluster", "rabbitmq")["spec"]["replicas"]
    assert environment["BROKER_NODES"] == str(replicas)


# --- Admission ----------------------------------------------------------------------------------


@every_folder
def test_the_webhook_of_keda_accepts_every_scaled_object(folder: str) -> None:
    manifests = built(folder)
    scaled = [m for m in manifests if m["kind"] == "ScaledObject"]

    assert {m["metadata"]["name"]: refusals(m, manifests) for m in scaled} == {
        m["metadata"]["name"]: [] for m in scaled
    }
    assert len(scaled) == 6


def _with_fallback(spec: Manifest) -> None:
    spec["fallback"] = {"failureThreshold": 5, "replicas": 2}


def _without_minimum(spec: Manifest) -> None:
    del spec["minReplicaCount"]


def _of_another_type(spec: Manifest) -> None:
    spec["triggers"][0]["metricType"] = "Value"


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        ("api", _with_fallback),
        ("api", _without_minimum),
        ("notification-mailer", _of_another_type),
        ("order-worker", _of_another_type),
    ],
)
def test_the_webhook_of_keda_rejects_earlier_mistakes(name: str, break_it: Any) -> None:
    broken = copy.deepcopy(one("base", "ScaledObject", name))
    break_it(broken["spec"])

    assert refusals(broken, built("base"))


#: The pod as the operator creates it, from its `internal/resource/statefulset.go`.
OPERATORS_POD = {
    "securityContext": {"fsGroup": 0, "runAsUser": 999},
    "containers": [{"name": "rabbitmq"}],
    "initContainers": [{"name": "setup-container"}],
}


@every_folder
def test_every_pod_satisfies_the_security_level_of_its_namespace(folder: str) -> None:
    # Given the level that the namespace enforces
    labels = one(folder, "Namespace", "orders")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    override = one(folder, "RabbitmqCluster", "rabbitmq")["spec"]["override"]
    broker = _patched(OPERATORS_POD, override["statefulSet"]["spec"]["template"]["spec"])

    # Then every pod satisfies that level
    specs = {owner["metadata"]["name"]: template["spec"] for owner, template in pods(built(folder))}
    for name, pod in (specs | {"rabbitmq": broker}).items():
        assert _unrestricted(pod) == [], name
    assert _unrestricted(OPERATORS_POD)


def _patched(pod: Manifest, patch: Manifest) -> Manifest:
    """Merge a patch like Kubernetes: containers by their names."""
    merged = {**pod, "securityContext": pod["securityContext"] | patch["securityContext"]}
    for kind in ("containers", "initContainers"):
        patches = {container["name"]: container for container in patch[kind]}
        assert patches.keys() == {container["name"] for container in pod[kind]}
        merged[kind] = [container | patches[container["name"]] for container in pod[kind]]
    return merged


def _unrestricted(pod: Manifest) -> list[str]:
    """Return the violations of the level `restricted` of the Pod Security Standards."""
    own = pod["securityContext"]
    objections = []
    if own.get("runAsNonRoot") is not True or own.get("runAsUser") == 0:
        objections.append("runAsNonRoot != true")
    if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        objections.append("seccompProfile")
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            objections.append("allowPrivilegeEscalation != false")
        if "ALL" not in security.get("capabilities", {}).get("drop", []):
            objections.append("unrestricted capabilities")
    return objections


def test_the_api_trusts_one_proxy_for_the_ingress() -> None:
    # Otherwise every customer would have the address of the ingress controller.
    (container,) = one("base", "Deployment", "api")["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}

    assert environment["API_TRUSTED_PROXIES"] == "1"


# --- Versions -----------------------------------------------------------------------------------


def test_every_server_image_is_pinned_to_a_minor_version() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    images = {
        "rabbitmq": compose["rabbitmq"]["image"],
        "postgres": compose["postgres"]["image"],
        "k8s rabbitmq": one("base", "RabbitmqCluster", "rabbitmq")["spec"]["image"],
        "k8s postgres": one("base", "Cluster", "postgres")["spec"]["imageName"],
    }
    for name, image in images.items():
        tag = image.rstrip("}").rpartition(":")[2]
        # RabbitMQ's official image is on Ubuntu. RabbitMQ does not depend on a collation.
        wanted = r"\d+\.\d+(-standard)?-bookworm" if "postgres" in name else r"\d+\.\d+\.\d+-.+"
        assert re.fullmatch(wanted, tag), (name, image)
    assert images["rabbitmq"].rstrip("}").endswith(images["k8s rabbitmq"])
