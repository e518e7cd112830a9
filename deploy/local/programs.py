"""The application's processes: one table, from which everything that starts them is made."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from common.kombu_topology import SERVICES
from deploy.local import REPOSITORY
from deploy.local.broker import VHOST
from deploy.local.health import Check, answers, beats, runs
from deploy.local.ports import Ports
from deploy.local.process import Process
from deploy.local.state import StateDirectory


class Health(Enum):
    """What shows that a program does its work."""

    #: `GET /readyz` answers 200.
    READY = auto()
    #: It touches the file that `HEALTH_FILE` names every few seconds.
    HEARTBEAT = auto()
    #: It has not ended.
    RUNS = auto()


@dataclass(frozen=True)
class Program:
    """A process of the application; `user` is its broker user and the name of its service."""

    name: str
    user: str
    command: str
    health: Health = Health.HEARTBEAT


#: In the order of their start. `$NAME` in a command is a variable of the program's environment.
PROGRAMS = (
    Program(
        "api",
        "order",
        "gunicorn --bind 127.0.0.1:$API_PORT --workers 2 --threads 8 --worker-class gthread"
        " --no-control-socket order_app.app:create_app()",
        Health.READY,
    ),
    Program("order-worker", "order", "celery -q -A order_app.worker worker -n order@order"),
    Program("order-relay", "order", "celery -q -A order_app.relay worker -n order-relay@order"),
    Program(
        "inventory-worker",
        "inventory",
        "celery -q -A inventory_worker.worker worker -n inventory@inventory",
    ),
    Program(
        "inventory-relay",
        "inventory",
        "celery -q -A inventory_worker.relay worker -n inventory-relay@inventory",
    ),
    Program(
        "notification-worker",
        "notification",
        "celery -q -A notification_worker.worker worker -n notification@notification",
    ),
    Program(
        "notification-mailer",
        "notification",
        "celery -q -A notification_worker.mailer worker -n notification-mailer@notification",
    ),
    Program("beat", "scheduler", "celery -q -A scheduler.beat beat", Health.RUNS),
)

#: The one client of a local run may be a load test.
API_ENVIRONMENT = {"API_RATE_LIMIT": "1000000"}

SERVICE_NAMES = frozenset(service.name for service in SERVICES)


def processes(state: StateDirectory, ports: Ports) -> tuple[Process, ...]:
    """Return every program as the supervisor runs it here."""
    return tuple(_process(program, state, ports) for program in PROGRAMS)


def api_url(ports: Ports) -> str:
    """Return the address of the orders API."""
    return f"http://127.0.0.1:{ports.api_port}"


def _process(program: Program, state: StateDirectory, ports: Ports) -> Process:
    executable, *arguments = program.command.split()
    serves = program.health is Health.READY
    # Each process of the API counts in files there.
    metrics = state.path / "metrics" / program.name
    health_file = state.health / program.name
    environment = _environment(program, state.secrets, ports) | (
        {"PROMETHEUS_MULTIPROC_DIR": str(metrics)} | API_ENVIRONMENT
        if serves
        else {"HEALTH_FILE": str(health_file)}
    )
    return Process(
        name=program.name,
        command=(
            str(REPOSITORY / ".venv/bin" / executable),
            *(argument.replace("$API_PORT", str(ports.api_port)) for argument in arguments),
        ),
        environment=environment,
        transient=(metrics, health_file),
        check=_check(program.health, health_file, ports),
        ports={"API_PORT": ports.api_port} if serves else {},
        url=api_url(ports) if serves else "",
        stop_seconds=30,
    )


def _check(health: Health, health_file: Path, ports: Ports) -> Check:
    checks = {
        Health.READY: answers(f"{api_url(ports)}/readyz"),
        Health.HEARTBEAT: beats(health_file),
        Health.RUNS: runs,
    }
    return checks[health]


def _environment(program: Program, secrets: Path, ports: Ports) -> dict[str, str]:
    """Return what a program is told: where things are, never a secret itself."""
    broker = {
        "BROKER_HOST": "127.0.0.1",
        "BROKER_PORT": str(ports.amqp_port),
        "BROKER_VHOST": VHOST,
        "BROKER_USER": program.user,
        "BROKER_PASSWORD_FILE": str(secrets / f"{program.user}.broker"),
    }
    database = {
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": str(ports.postgres_port),
        "DATABASE_NAME": f"{program.user}_service",
        "DATABASE_USER": f"{program.user}_service",
        "DATABASE_PASSWORD_FILE": str(secrets / f"{program.user}.database"),
    }
    mail = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(ports.smtp_port),
        "MAIL_FROM": "The Tea Shop <orders@example.com>",
    }
    others = {"LOG_LEVEL": "INFO", "PYTHONUNBUFFERED": "1"}
    return broker | (database | mail if program.user in SERVICE_NAMES else {}) | others
