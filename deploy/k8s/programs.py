"""The manifests of our programs, made from the table that a local run and containers start from."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from deploy.k8s import environment
from deploy.k8s.environment import PORT
from deploy.k8s.scaling import scaled_object
from deploy.local import REPOSITORY
from deploy.local.processes.health import HEARTBEAT
from deploy.local.processes.programs import PROGRAMS, WITH_DATABASE, Health, Program
from monitor.settings import ExporterSettings, FlowerSettings

Manifest = dict[str, Any]

FILE = REPOSITORY / "deploy/k8s/base/programs.yaml"

#: Each cluster chooses where spans go: see OTLP_ENDPOINT in docs/operations/settings.md.
LEFT_OUT = frozenset({"spans"})

HERE = tuple(program for program in PROGRAMS if program.name not in LEFT_OUT)

#: The onlookers' ports, which are not on their command lines.
_PORTS = {
    "flower": FlowerSettings.model_fields["flower_port"].default,
    "exporter": ExporterSettings.model_fields["exporter_port"].default,
}

#: Whom customers and operators reach by a name.
_SERVED = frozenset({"api", "console", "flower"})

#: Seconds that who is told to end goes on to be sent requests: an endpoint's removal takes a
#: moment to reach every node.
_DRAIN = 10

#: Seconds until a pod is killed: longer than a handler may run (45), and than `_DRAIN` and what
#: the API gives its last requests (25) together.
_GRACE = 60

_HEADER = (
    "# Made by `python -m deploy.k8s` from deploy/local/processes/programs.py: change it there.\n"
)


def manifests() -> str:
    """Return the file of all programs."""
    documents = [document for program in HERE for document in of(program)]
    return _HEADER + "".join(
        f"---\n{yaml.safe_dump(document, sort_keys=False, width=100)}" for document in documents
    )


def of(program: Program) -> Iterator[Manifest]:
    """Return what a program consists of."""
    scaled = scaled_object(program)
    yield _deployment(program, is_scaled=scaled is not None)
    if program.name in _SERVED:
        yield _object("v1", "Service", program, _service(program))
    # One at a time may be moved to another node, and no more.
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": _selector(program)}}
    yield _object("policy/v1", "PodDisruptionBudget", program, budget)
    if scaled:
        yield _object("keda.sh/v1alpha1", "ScaledObject", program, scaled)


def command(program: Program) -> list[str]:
    """Return a program's command, as it is in a container."""
    # Kubernetes puts the variable in; the map of settings has it.
    words = re.sub(r"127\.0\.0\.1:\$\w+", f"$(HTTP_BIND):{PORT}", program.command).split()
    # Celery puts the pod's name in: of two workers of one name, each would tell of the other's end.
    words = [f"{word}-%h" if "@" in word else word for word in words]
    return words if program.venv == ".venv" else [f"/opt/exporter/bin/{words[0]}", *words[1:]]


def _object(version: str, kind: str, program: Program, spec: Manifest) -> Manifest:
    metadata = {"name": program.name, "labels": _labels(program)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _selector(program: Program) -> dict[str, str]:
    return {"app.kubernetes.io/name": program.name, "app.kubernetes.io/part-of": "orders"}


def _labels(program: Program) -> dict[str, str]:
    """Return what a program is found by, and what network policies let it reach."""
    reach = {
        "orders/broker": program.needs_broker and program.name != "console",
        "orders/management": program.name in ("console", "flower"),
        "orders/database": program.user in WITH_DATABASE or program.name == "console",
    }
    return {
        **_selector(program),
        "app.kubernetes.io/component": "program",
        "orders/service": program.user,
        **{label: "reached" for label, is_reached in reach.items() if is_reached},
    }


def _deployment(program: Program, *, is_scaled: bool) -> Manifest:
    spec = {
        # Nothing shows that beat works but its ticks: it gets as long as a slow start takes.
        **({"minReadySeconds": 20} if program.health is Health.RUNS else {}),
        # KEDA's, where it scales: two who set them would fight.
        **({} if is_scaled else {"replicas": 1}),
        # The new one works before the old one is told to end.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "selector": {"matchLabels": _selector(program)},
        "template": {"metadata": {"labels": _labels(program)}, "spec": _pod(program)},
    }
    return _object("apps/v1", "Deployment", program, spec)


def _pod(program: Program) -> Manifest:
    directories = ["/tmp", *environment.directories(program)]  # noqa: S108, a volume of its own
    names = [f"scratch{number}" for number, _ in enumerate(directories)]
    return {
        "automountServiceAccountToken": False,
        # They would name settings of ours: the service `flower` would set FLOWER_PORT.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selector(program)},
            }
        ],
        "containers": [
            _container(program)
            | {
                "volumeMounts": [
                    {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True},
                    {"name": "trust", "mountPath": "/tls/trust", "readOnly": True},
                    *({"name": n, "mountPath": d} for n, d in zip(names, directories, strict=True)),
                ]
            }
        ],
        "volumes": [
            {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _secrets(program)}},
            {"name": "trust", "secret": {"secretName": "authority"}},
            *({"name": n, "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}} for n in names),
        ],
    }


def _secrets(program: Program) -> list[Manifest]:
    return [{"secret": {"name": name}} for name in environment.secrets(program)]


def _container(program: Program) -> Manifest:
    told = environment.of(program)
    maps = ["settings", *(["mail"] if program.name == "notification-mailer" else [])]
    container: Manifest = {
        "name": program.name,
        "image": "orders",
        "command": command(program),
        "env": [{"name": name, "value": value} for name, value in told.items()],
        "envFrom": [{"configMapRef": {"name": name}} for name in maps],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # Measured while idle: 53 to 156 MB, see docs/operations/sizes-and-ports.md#sizes.
        "resources": {
            "requests": {"cpu": "100m", "memory": "192Mi"},
            "limits": {"memory": "512Mi"},
        },
    }
    if port := _port(program):
        name = "metrics" if program.health is Health.HEARTBEAT else "http"
        container["ports"] = [{"name": name, "containerPort": port}]
    if program.name in _SERVED:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(_DRAIN)]}}}
    return container | _probes(program)


def _port(program: Program) -> int | None:
    return None if program.health is Health.RUNS else _PORTS.get(program.name, PORT)


def _probes(program: Program) -> Manifest:
    match program.health:
        case Health.HEARTBEAT:
            # The file's age is the loop's, and its text the connection's: an outage of the broker
            # restarts nothing, and a rollout goes on only when the new pod consumes.
            alive, ready = (
                {"exec": {"command": ["python", "-c", test]}, "timeoutSeconds": 5}
                for test in (_FRESH, _READY)
            )
            return {
                "startupProbe": alive | {"periodSeconds": 2, "failureThreshold": 60},
                "livenessProbe": alive | {"periodSeconds": 10, "failureThreshold": 6},
                "readinessProbe": ready | {"periodSeconds": 10},
            }
        case Health.READY:
            return {
                "startupProbe": _get("/healthz") | {"periodSeconds": 2, "failureThreshold": 60},
                "livenessProbe": _get("/healthz") | {"periodSeconds": 10},
                "readinessProbe": _get("/readyz") | {"periodSeconds": 5},
            }
        case Health.METRICS:
            return {
                "startupProbe": _get("/metrics") | {"periodSeconds": 2, "failureThreshold": 60},
                "livenessProbe": _get("/metrics") | {"periodSeconds": 10},
                "readinessProbe": _get("/metrics") | {"periodSeconds": 10},
            }
        case Health.RUNS:
            return {}


_FRESH = (
    "import os, sys, time; "
    f"sys.exit(abs(time.time() - os.stat('{environment.HEALTH_FILE}').st_mtime) > {HEARTBEAT:g})"
)
#: A process that tells nothing else is ready as long as it lives.
_READY = (
    "import os, sys, time; "
    f"stale = time.time() - os.stat('{environment.HEALTH_FILE}').st_mtime > {HEARTBEAT:g}; "
    f"sys.exit(stale or open('{environment.HEALTH_FILE}').read().strip() not in ('', 'ready'))"
)


def _get(path: str) -> Manifest:
    return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": 5}


def _service(program: Program) -> Manifest:
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return {"selector": _selector(program), "ports": ports}
