"""Pods are confined, reach only their servers, and are probed and replaced without downtime."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from celeryconfig import worker
from deploy.compose import secret_files
from deploy.k8s import programs
from deploy.k8s.environment import HEALTH_FILE, PORT
from deploy.local.processes.programs import Health, Program
from tests.support.manifests import (
    Manifest,
    built,
    every_folder,
    one,
    pods,
    settings_of,
)

every_program = pytest.mark.parametrize("program", programs.HERE, ids=lambda p: p.name)


def test_a_pod_has_time_to_finish_its_work() -> None:
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
def test_a_rollout_keeps_the_old_pod_until_the_new_one_is_ready(program: Program) -> None:
    deployment = one("base", "Deployment", program.name)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert ("readinessProbe" in container) == (program.health is not Health.RUNS)


@every_folder
@every_program
def test_a_program_for_which_no_order_waits_requests_a_tenth(folder: str, program: Program) -> None:
    # Given the program's request, and that of the API, for which every order waits
    requested = _requested_cpu(folder, program.name)
    decisions = _requested_cpu(folder, "api")

    # Then a busy node gives background work a tenth of the processor's time
    assert requested == (decisions / 10 if program.is_background else decisions)


def _requested_cpu(folder: str, name: str) -> float:
    (container,) = one(folder, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return float(container["resources"]["requests"]["cpu"].removesuffix("m"))


@every_folder
def test_every_pod_is_confined(folder: str) -> None:
    for _, template in pods(built(folder)):
        pod = template["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # Otherwise the Service `flower` would set FLOWER_PORT.
        assert pod["enableServiceLinks"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert "hostPath" not in str(pod["volumes"])


def test_network_traffic_is_denied_by_default() -> None:
    nothing = one("base", "NetworkPolicy", "nothing")["spec"]

    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize("target", ["broker", "management", "database", "api"])
def test_only_clients_of_a_server_can_connect_to_it(target: str) -> None:
    # Given the setting that makes a program a client of the server
    setting = {
        "broker": "BROKER_USER",
        "management": "BROKER_ADMIN_URL",
        "database": "DATABASE_HOST",
        "api": "ORDER_API_URL",
    }
    policy = one("base", "NetworkPolicy", f"to-{target}")["spec"]

    # Then exactly the clients match the policy
    assert policy["podSelector"] == {"matchLabels": {f"orders/{target}": "reached"}}
    for owner, template in pods(built("base")):
        (container,) = template["spec"]["containers"]
        may = template["metadata"]["labels"].get(f"orders/{target}") == "reached"
        assert may == (setting[target] in settings_of(container)), owner["metadata"]["name"]


@pytest.mark.parametrize("kind", ["PodDisruptionBudget", "ScaledObject", "Service"])
def test_services_budgets_and_scalers_match_their_program(kind: str) -> None:
    deployments = {m["metadata"]["name"]: m for m in built("base") if m["kind"] == "Deployment"}
    for manifest in (m for m in built("base") if m["kind"] == kind):
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        if name == "rabbitmq":
            continue
        if kind == "ScaledObject":
            assert spec["scaleTargetRef"]["name"] == name
            # The ScaledObject sets the number of replicas.
            assert "replicas" not in deployments[name]["spec"]
            continue
        selector = spec["selector"].get("matchLabels", spec["selector"])
        labels = deployments[name]["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
    if kind == "PodDisruptionBudget":
        budgets = {m["metadata"]["name"] for m in built("base") if m["kind"] == kind}
        assert budgets == {*deployments, "rabbitmq"}


def test_every_metrics_port_is_scraped() -> None:
    # Given the ports of all pods
    ports: dict[str, list[Any]] = {"metrics": [], "http": []}
    for _, template in pods(built("base")):
        (container,) = template["spec"]["containers"]
        for port in container.get("ports", []):
            ports[port["name"]].append((container["name"], port["containerPort"]))

    # Then these ports are scraped, the API with the key
    heartbeats = {(p.name, PORT) for p in programs.HERE if p.health is Health.HEARTBEAT}
    assert set(ports["metrics"]) == heartbeats
    monitors = {
        m["metadata"]["name"]: m["spec"] for m in built("base") if m["kind"] == "PodMonitor"
    }
    assert monitors["programs"]["podMetricsEndpoints"][0]["port"] == "metrics"
    key = monitors["api"]["podMetricsEndpoints"][0]["authorization"]["credentials"]
    assert key == {"name": secret_files.PROMETHEUS, "key": secret_files.PROMETHEUS}


heartbeats = [p for p in programs.HERE if p.health is Health.HEARTBEAT]


@pytest.mark.parametrize("program", heartbeats, ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("text", "age", "alive", "ready"),
    [
        ("ready\n", 0, True, True),
        # A process without readiness writes an empty file.
        ("", 0, True, True),
        ("ready, paused by an operator\n", 0, True, True),
        ("not connected to the broker\n", 0, True, False),
        ("paused: the database takes no writes\n", 0, True, False),
        ("ready\n", 60, False, False),
        (None, 0, False, False),
    ],
)
def test_liveness_follows_the_loop_and_readiness_the_connection(
    program: Program, text: str | None, age: int, alive: bool, ready: bool, tmp_path: Path
) -> None:
    # Given a health file of this text and age
    (container,) = one("base", "Deployment", program.name)["spec"]["template"]["spec"]["containers"]
    file = tmp_path / "health"
    if text is not None:
        file.write_text(text)
        os.utime(file, (time.time() - age,) * 2)

    # When the probes run
    results = {
        kind: _passes(container[f"{kind}Probe"]["exec"]["command"], file)
        for kind in ("startup", "liveness", "readiness")
    }

    # Then each probe has the expected result
    assert results == {"startup": alive, "liveness": alive, "readiness": ready}


def _passes(command: list[str], file: Path) -> bool:
    words = [word.replace(HEALTH_FILE, str(file)) for word in command]
    done = subprocess.run([sys.executable, *words[1:]], stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0
