"""The manifests of deploy/k8s: a cluster would take them, and they say what the code says."""

import copy
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery.utils.nodenames import host_format

from celeryconfig import worker
from console.settings import ConsoleSettings, OperatorSettings
from deploy.compose import secret_files
from deploy.k8s import programs
from deploy.k8s.environment import BROKER, DATABASE, HEALTH_FILE, PORT
from deploy.local import REPOSITORY
from deploy.local.processes.programs import Health, Program
from eventbus.settings.broker import BrokerSettings
from eventbus.settings.service import ServiceSettings
from monitor.settings import ExporterSettings, FlowerSettings
from notification_worker.settings import MailerSettings
from order_app.settings import ApiSettings
from tests.support.manifests import (
    Manifest,
    built,
    has_schema,
    objection,
    path_of,
    pods,
    settings_of,
)

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]

FOLDERS = ("base", "production")

#: What each program reads, by its name; a service's own is what the others read.
SETTINGS = {
    "api": ApiSettings,
    "notification-mailer": MailerSettings,
    "flower": FlowerSettings,
    "exporter": ExporterSettings,
    "console": ConsoleSettings,
    "beat": BrokerSettings,
    "deploy": OperatorSettings,
}

every_folder = pytest.mark.parametrize("folder", FOLDERS)
every_program = pytest.mark.parametrize("program", programs.HERE, ids=lambda p: p.name)


# --- What a cluster would say -------------------------------------------------------------------


@every_folder
def test_a_cluster_takes_every_manifest(folder: str) -> None:
    objections = {
        f"{manifest['kind']} {manifest['metadata']['name']}": objection(manifest)
        for manifest in built(folder)
        if has_schema(manifest["kind"])
    }

    assert {name: said for name, said in objections.items() if said} == {}


@pytest.mark.parametrize("kind", ["Cluster", "PodMonitor", "RabbitmqCluster", "ScaledObject"])
def test_the_definition_of_a_kind_that_is_not_kubernetes_own_is_here(kind: str) -> None:
    built("base")
    assert has_schema(kind)


def _unknown_field(manifest: Manifest) -> None:
    manifest["spec"]["replica"] = 3


def _wrong_type(manifest: Manifest) -> None:
    spec = manifest["spec"]
    numbers = {name: "many" for name, value in spec.items() if isinstance(value, int)}
    spec |= numbers or {name: "many" for name, value in spec.items() if not isinstance(value, str)}


def _misspelt_in_a_pod(manifest: Manifest) -> None:
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["readOnlyRootFileSystem"] = True


def _wrong_choice(manifest: Manifest) -> None:
    manifest["spec"]["primaryUpdateStrategy"] = "sometimes"


def _too_few(manifest: Manifest) -> None:
    manifest["spec"]["instances"] = 0


def _missing(manifest: Manifest) -> None:
    del manifest["spec"]["scaleTargetRef"]


@pytest.mark.parametrize(
    ("kind", "break_it"),
    [
        *(
            (kind, break_it)
            for kind in (
                *("Deployment", "NetworkPolicy", "Cluster", "ScaledObject", "PodMonitor"),
                "RabbitmqCluster",
            )
            for break_it in (_unknown_field, _wrong_type)
        ),
        ("Deployment", _misspelt_in_a_pod),
        ("Job", _misspelt_in_a_pod),
        ("Cluster", _wrong_choice),
        ("Cluster", _too_few),
        ("ScaledObject", _missing),
    ],
    ids=lambda p: p if isinstance(p, str) else p.__name__.strip("_"),
)
def test_a_broken_manifest_is_refused(kind: str, break_it: Callable[[Manifest], None]) -> None:
    # given
    sound = next(manifest for manifest in built("base") if manifest["kind"] == kind)
    broken = copy.deepcopy(sound)

    # when
    break_it(broken)

    # then
    assert broken != sound
    assert objection(sound) is None
    assert objection(broken)


# --- The same as elsewhere ----------------------------------------------------------------------


def test_the_committed_programs_are_those_that_the_code_makes() -> None:
    assert programs.FILE.read_text() == programs.manifests(), "run: .venv/bin/python -m deploy.k8s"


def test_every_file_is_a_part_of_its_folder() -> None:
    for folder in FOLDERS:
        kustomization = yaml.safe_load((path_of(folder) / "kustomization.yaml").read_text())
        named = {
            *kustomization["resources"],
            *(p["path"] for p in kustomization.get("patches", []) if "path" in p),
            "kustomization.yaml",
        }
        assert {path.name for path in path_of(folder).iterdir()} == named - {"../base"}


@every_program
def test_a_programs_command_is_that_of_its_container(program: Program) -> None:
    command = COMPOSE[program.name]["command"]
    words = command.split() if isinstance(command, str) else command

    told = [word.replace("$(HTTP_BIND)", "0.0.0.0") for word in programs.command(program)]
    assert told == words


@every_folder
def test_every_variable_is_a_setting_of_who_is_told(folder: str) -> None:
    # given
    maps = _settings_maps(folder)

    for owner, template in pods(built(folder)):
        # when
        (container,) = template["spec"]["containers"]
        told = {*settings_of(container), *(n for ref in container["envFrom"] for n in maps(ref))}
        known = SETTINGS.get(owner["metadata"]["name"], ServiceSettings).model_fields
        # Those of programs that show metrics, and of a command, are in the map of every program.
        names = {name.upper() for name in known} | {"PROMETHEUS_MULTIPROC_DIR"}
        names |= {"METRICS_HOST", "HTTP_BIND"}

        # then
        assert {name.removesuffix("_FILE") if name not in names else name for name in told} <= names


def _settings_maps(folder: str) -> Callable[[Manifest], dict[str, str]]:
    maps = {m["metadata"]["name"]: m["data"] for m in built(folder) if m["kind"] == "ConfigMap"}
    return lambda reference: maps[reference["configMapRef"]["name"]]


@every_program
def test_a_program_sees_the_secrets_that_its_container_sees(program: Program) -> None:
    assert sorted(_secrets_of(program.name)) == sorted(COMPOSE[program.name]["secrets"])


def test_the_deployment_does_and_sees_what_it_does_in_containers() -> None:
    # given
    (job,) = (manifest for manifest in built("base") if manifest["kind"] == "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]

    # then
    assert container["command"] == COMPOSE["deploy"]["command"]
    assert sorted(_secrets_of("deploy")) == sorted(COMPOSE["deploy"]["secrets"])
    assert settings_of(container).keys() == COMPOSE["deploy"]["environment"].keys()


def _secrets_of(name: str) -> list[str]:
    """The files that a pod finds in its directory of secrets."""
    (pod,) = (t["spec"] for m, t in pods(built("base")) if m["metadata"]["name"] == name)
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    found = []
    for source in volumes["secrets"]["projected"]["sources"]:
        secret = source["secret"]
        found += [i["path"] for i in secret["items"]] if "items" in secret else [secret["name"]]
    return found


@every_folder
def test_no_secret_is_in_a_manifest_and_each_that_is_referred_to_is_one_we_know(
    folder: str,
) -> None:
    # given
    ours = set(secret_files.names())
    operators = {"authority", "rabbitmq-default-user", "rabbitmq-tls"}
    operators |= {"postgres-superuser", "postgres-tls"}

    # when
    text = yaml.safe_dump_all(built(folder))
    named = set(re.findall(r"secret:\s+(?:items:(?:\s+- .*|\s+path: .*)+\s+)?name: (\S+)", text))
    named |= set(re.findall(r"(?:secretName|caSecretName|serverCASecret|TLSSecret): (\S+)", text))

    # then
    assert "Secret" not in {manifest["kind"] for manifest in built(folder)}
    assert not re.search(r"(?i)password: \S", text)
    assert named <= ours | operators
    assert "order.broker" in named


def test_where_programs_go_is_what_the_operators_call_it() -> None:
    # given
    named = {m["kind"]: m["metadata"]["name"] for m in built("base")}

    # then
    assert named["RabbitmqCluster"] == BROKER
    assert f"{named['Cluster']}-rw" == DATABASE


# --- What may go wrong --------------------------------------------------------------------------


def test_a_pod_has_time_to_end_what_it_began() -> None:
    assert worker.task_time_limit is not None
    for _, template in pods(built("base")):
        pod = template["spec"]
        (container,) = pod["containers"]
        if container["name"] == "deploy":
            continue
        drain = (
            int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            if _serves(container)
            else 0
        )
        assert pod["terminationGracePeriodSeconds"] > max(worker.task_time_limit, drain + 25)


def _serves(container: Manifest) -> bool:
    return "lifecycle" in container


@every_program
def test_a_rollout_takes_no_program_away_before_the_next_one_works(program: Program) -> None:
    deployment = _one("Deployment", program.name)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert ("readinessProbe" in container) == (program.health is not Health.RUNS)


@every_folder
def test_every_pod_is_confined(folder: str) -> None:
    for _, template in pods(built(folder)):
        pod = template["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # Or the Service `flower` would set FLOWER_PORT.
        assert pod["enableServiceLinks"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert "hostPath" not in str(pod["volumes"])


def test_nothing_goes_in_or_out_but_what_a_policy_says() -> None:
    nothing = _one("NetworkPolicy", "nothing")["spec"]

    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("target", ["broker", "management", "database"])
def test_who_is_told_of_a_server_may_reach_it_and_nobody_else(target: str) -> None:
    # given
    setting = {
        "broker": "BROKER_USER",
        "management": "BROKER_ADMIN_URL",
        "database": "DATABASE_HOST",
    }
    policy = _one("NetworkPolicy", f"to-{target}")["spec"]

    # then
    assert policy["podSelector"] == {"matchLabels": {f"orders/{target}": "reached"}}
    for owner, template in pods(built("base")):
        (container,) = template["spec"]["containers"]
        may = template["metadata"]["labels"].get(f"orders/{target}") == "reached"
        assert may == (setting[target] in settings_of(container)), owner["metadata"]["name"]


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "ScaledObject", "Service"])
def test_what_is_about_a_program_finds_it(kind: str) -> None:
    deployments = {m["metadata"]["name"]: m for m in built("base") if m["kind"] == "Deployment"}
    for manifest in (m for m in built("base") if m["kind"] == kind):
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        if name == "rabbitmq":
            continue
        if kind == "ScaledObject":
            assert spec["scaleTargetRef"]["name"] == name
            # Who scales it says how many there are.
            assert "replicas" not in deployments[name]["spec"]
            continue
        selector = spec["selector"].get("matchLabels", spec["selector"])
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
    if kind == "PodDisruptionBudget":
        budgets = {m["metadata"]["name"] for m in built("base") if m["kind"] == kind}
        assert budgets == {*deployments, "rabbitmq"}


def test_metrics_are_asked_for_where_programs_show_them() -> None:
    # given
    ports: dict[str, list[Any]] = {"metrics": [], "http": []}
    for _, template in pods(built("base")):
        (container,) = template["spec"]["containers"]
        for port in container.get("ports", []):
            ports[port["name"]].append((container["name"], port["containerPort"]))

    # then
    heartbeats = {(p.name, PORT) for p in programs.HERE if p.health is Health.HEARTBEAT}
    assert set(ports["metrics"]) == heartbeats
    monitors = {
        m["metadata"]["name"]: m["spec"] for m in built("base") if m["kind"] == "PodMonitor"
    }
    assert monitors["programs"]["podMetricsEndpoints"][0]["port"] == "metrics"
    key = monitors["api"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    assert key == {"name": secret_files.PROMETHEUS, "key": secret_files.PROMETHEUS}


def _one(kind: str, name: str) -> Manifest:
    (found,) = (m for m in built("base") if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


# --- Probes -------------------------------------------------------------------------------------

heartbeats = [p for p in programs.HERE if p.health is Health.HEARTBEAT]


@pytest.mark.parametrize("program", heartbeats, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("text", "age", "alive", "ready"),
    [
        ("ready\n", 0, True, True),
        # A process that tells nothing but that it lives.
        ("", 0, True, True),
        ("not connected to the broker\n", 0, True, False),
        ("paused: the database takes no writes\n", 0, True, False),
        ("ready\n", 60, False, False),
        (None, 0, False, False),
    ],
)
def test_liveness_is_the_loop_and_readiness_the_connection(
    program: Program, text: str | None, age: int, alive: bool, ready: bool, tmp_path: Path
) -> None:
    # given
    (container,) = _one("Deployment", program.name)["spec"]["template"]["spec"]["containers"]
    file = tmp_path / "health"
    if text is not None:
        file.write_text(text)
        os.utime(file, (time.time() - age,) * 2)

    # when
    found = {
        kind: _passes(container[f"{kind}Probe"]["exec"]["command"], file)
        for kind in ("startup", "liveness", "readiness")
    }

    # then
    assert found == {"startup": alive, "liveness": alive, "readiness": ready}


def _passes(command: list[str], file: Path) -> bool:
    words = [word.replace(HEALTH_FILE, str(file)) for word in command]
    done = subprocess.run([sys.executable, *words[1:]], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("program", heartbeats, ids=lambda p: p.name)
def test_two_pods_of_a_program_have_two_names(program: Program) -> None:
    words = programs.command(program)
    name = words[words.index("-n") + 1]

    assert host_format(name, host="pod-1") != host_format(name, host="pod-2")
