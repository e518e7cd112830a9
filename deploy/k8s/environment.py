"""The settings of a program on Kubernetes: addresses and files, never a secret itself."""

from deploy.local.processes.programs import WITH_DATABASE, Health, Program
from deploy.local.servers import credentials

#: The port of every program, because each pod has its own address, and therefore all ports.
PORT = 8000

#: The names, set by the Kubernetes operators, that a client connects to: any running RabbitMQ node,
#: and the PostgreSQL server that accepts writes.
BROKER, DATABASE = "rabbitmq", "postgres-rw"

#: The management API, over TLS.
MANAGEMENT = f"https://{BROKER}:15671"

#: The service of the API, on the port that `_service` in programs.py declares.
API = "http://api"

PROMETHEUS = "http://prometheus-operated.monitoring:9090"

#: The directory of the CA's certificate.
TRUST = "/tls/trust"
CA_FILE = f"{TRUST}/ca.crt"
HEALTH_FILE = "/tmp/health"  # noqa: S108, the pod's own volume
METRICS = "/run/metrics"

#: The security context of every pod, and of every container.
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

#: The requests and limits of a program. An idle program uses 38 to 149 MB: see
#: docs/operations/sizes-and-ports.md#sizes.
RESOURCES = {"requests": {"cpu": "100m", "memory": "192Mi"}, "limits": {"memory": "512Mi"}}

#: The requests and limits of a program for which no order waits. A busy node divides its processors
#: by the requests: the ratio is that of the nice values on a machine without containers.
_YIELDING = RESOURCES | {"requests": {"cpu": "10m", "memory": "192Mi"}}

_BROKER = {"BROKER_HOST": BROKER, "BROKER_VHOST": "orders", "BROKER_CA_FILE": CA_FILE}
_DATABASE = {"DATABASE_HOST": DATABASE, "DATABASE_CA_FILE": CA_FILE}


def of(program: Program) -> dict[str, str]:
    """Return the settings of a program that are the same in every cluster."""
    if program.name == "console":
        return _console() | dict(program.settings)
    settings: dict[str, str] = {}
    if program.needs_broker:
        settings |= _BROKER | {
            "BROKER_USER": program.user,
            "BROKER_PASSWORD_FILE": _file(f"{program.user}.broker"),
        }
    if program.user in WITH_DATABASE:
        settings |= _DATABASE | {
            "DATABASE_NAME": f"{program.user}_service",
            "DATABASE_USER": f"{program.user}_service",
            "DATABASE_PASSWORD_FILE": _file(f"{program.user}.database"),
        }
    match program.health:
        case Health.HEARTBEAT:
            settings |= {"HEALTH_FILE": HEALTH_FILE, "METRICS_PORT": str(PORT)}
        case Health.READY:
            settings |= {"PROMETHEUS_MULTIPROC_DIR": METRICS}
    if program.name == "api":
        # Only an ingress can connect to it (see network.yaml), and forwards the client's address.
        settings |= {"API_TRUSTED_PROXIES": "1"}
    if program.name == "flower":
        settings |= {
            "BROKER_ADMIN_URL": MANAGEMENT,
            "FLOWER_PASSWORD_FILE": _file(credentials.FLOWER),
        }
    return settings | dict(program.settings)


def resources(program: Program) -> dict[str, dict[str, str]]:
    """Return the requests and limits of a program."""
    return _YIELDING if program.is_background else RESOURCES


def secrets(program: Program) -> list[str]:
    """Return the names of a program's secrets, each of which is a file, as in a local run."""
    prefix = _file("")
    return [
        value.removeprefix(prefix) for value in of(program).values() if value.startswith(prefix)
    ]


def directories(program: Program) -> list[str]:
    """Return the empty directories, besides `/tmp`, that a program writes to."""
    return [value for name, value in of(program).items() if name == "PROMETHEUS_MULTIPROC_DIR"]


def _console() -> dict[str, str]:
    return {
        name: value for name, value in (_BROKER | _DATABASE).items() if name != "BROKER_HOST"
    } | {
        # AMQP is on the same host.
        "BROKER_ADMIN_URL": MANAGEMENT,
        "BROKER_ADMIN_USER": "console",
        "BROKER_ADMIN_PASSWORD_FILE": _file("console.broker"),
        "CONSOLE_DATABASE_PASSWORD_FILE": _file(credentials.READER),
        "CONSOLE_PASSWORD_FILE": _file(credentials.CONSOLE),
        "ORDER_API_URL": API,
        "ORDER_API_KEY_FILE": _file(credentials.CONSOLE_KEY),
        "PROMETHEUS_URL": PROMETHEUS,
    }


def _file(secret: str) -> str:
    return f"/run/secrets/{secret}"
