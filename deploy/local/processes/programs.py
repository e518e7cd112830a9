"""The application's processes: one table, from which everything that starts them is made."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from common.kombu_topology import DATABASES
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes.health import Check, answers, beats, runs
from deploy.local.processes.process import Process
from deploy.local.servers import certificates, credentials
from deploy.local.servers.broker import VHOST, management_url
from deploy.local.state import StateDirectory


class Health(Enum):
    """What shows that a program does its work."""

    #: `GET /readyz` answers 200.
    READY = auto()
    #: It shows its own metrics at `/metrics`.
    METRICS = auto()
    #: It touches the file that `HEALTH_FILE` names every few seconds.
    HEARTBEAT = auto()
    #: It has not ended.
    RUNS = auto()


@dataclass(frozen=True)
class Program:
    """A process of the application; `user` is its broker user and the name of its service.

    `port` is the field of `Ports` of one that serves HTTP, `venv` the environment that it runs in.
    """

    name: str
    user: str
    command: str
    health: Health = Health.HEARTBEAT
    port: str = ""
    venv: str = ".venv"
    needs_broker: bool = True

    @property
    def is_installed(self) -> bool:
        """Whether its environment can be had with this version of Python."""
        return (REPOSITORY / self.venv / "bin/python").exists()

    @property
    def metrics_variable(self) -> str | None:
        """The variable with the port of its metrics, if it shows any."""
        if self.health is Health.HEARTBEAT:
            return f"{self.name.upper().replace('-', '_')}_METRICS_PORT"
        # The API shows its own beside its routes; the span store counts nothing.
        return "API_PORT" if self.name == "api" else None


#: In the order of their start. `$NAME` in a command is a variable of the program's environment.
PROGRAMS = (
    # First, so that the others' first spans find it.
    Program(
        "spans",
        "trace",
        "python -m common.http.server --bind 127.0.0.1:$SPANS_PORT --threads 4 span_store.app",
        Health.READY,
        "spans_port",
        needs_broker=False,
    ),
    Program(
        "api",
        "order",
        "python -m order_app.server --bind 127.0.0.1:$API_PORT order_app.app",
        Health.READY,
        "api_port",
        needs_broker=False,
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
    Program("fraud-worker", "fraud", "celery -q -A fraud_worker.worker worker -n fraud@fraud"),
    Program("fraud-relay", "fraud", "celery -q -A fraud_worker.relay worker -n fraud-relay@fraud"),
    Program(
        "analytics-reader",
        "analytics",
        "celery -q -A analytics_worker.reader worker -n analytics-reader@analytics",
    ),
    Program("beat", "scheduler", "celery -q -A scheduler.beat beat", Health.RUNS),
    Program("flower", "monitor", "python -m monitor.flower", Health.METRICS, "flower_port"),
    Program(
        "console",
        "console",
        "python -m common.http.server --bind 127.0.0.1:$CONSOLE_PORT --threads 8 console.web.app",
        Health.READY,
        "console_port",
    ),
    Program(
        "exporter",
        "monitor",
        "python -m monitor.exporter",
        Health.METRICS,
        "exporter_port",
        venv=".venv/exporter",
    ),
)

#: Nobody else is there to be protected from the one client of a local run, which may be a load
#: test: more requests in a minute than any API process can answer.
API_ENVIRONMENT = {"API_RATE_LIMIT": "1000000"}

#: What works as soon as there is a database: the API takes orders while RabbitMQ is down.
WITHOUT_BROKER = frozenset(program.name for program in PROGRAMS if not program.needs_broker)

WITH_DATABASE = frozenset(owner.name for owner in DATABASES)


def processes(state: StateDirectory, ports: Ports) -> tuple[Process, ...]:
    """Return every program as the supervisor runs it here."""
    return tuple(_process(program, state, ports) for program in PROGRAMS if program.is_installed)


def api_url(ports: Ports) -> str:
    """Return the address of the orders API."""
    return f"http://127.0.0.1:{ports.api_port}"


def flower_url(ports: Ports) -> str:
    """Return the address of Flower, which asks for a login."""
    return f"http://127.0.0.1:{ports.flower_port}"


def console_url(ports: Ports) -> str:
    """Return the address of the operators' web page, which asks for a login."""
    return f"http://127.0.0.1:{ports.console_port}"


def _process(program: Program, state: StateDirectory, ports: Ports) -> Process:
    executable, *arguments = program.command.split()
    # Each process of the API counts in files there.
    metrics = state.path / "metrics" / program.name
    health_file = state.health / program.name
    serves = getattr(ports, program.port) if program.port else None
    variable = program.metrics_variable
    own = {
        Health.READY: {"PROMETHEUS_MULTIPROC_DIR": str(metrics)},
        Health.HEARTBEAT: {
            "HEALTH_FILE": str(health_file),
            "METRICS_PORT": str(ports.of(variable)) if variable else "",
        },
        Health.RUNS: {},
        Health.METRICS: {program.port.upper(): str(serves)},
    }
    if program.name == "api":
        own[program.health] |= API_ENVIRONMENT
    return Process(
        name=program.name,
        command=(
            str(REPOSITORY / program.venv / "bin" / executable),
            *(filled(argument, ports) for argument in arguments),
        ),
        environment=_environment(program, state, ports) | own[program.health],
        transient=(metrics, health_file),
        check=_check(program.health, health_file, serves),
        ports={name: ports.of(name) for name in {variable, program.port.upper()} if name},
        url={
            "api": api_url(ports),
            "console": console_url(ports),
            "flower": flower_url(ports),
        }.get(program.name, ""),
        stop_seconds=30,
    )


def filled(argument: str, ports: Ports) -> str:
    """Return an argument of a command with the ports in it."""
    for name in ("api_port", "console_port", "spans_port"):
        argument = argument.replace(f"${name.upper()}", str(getattr(ports, name)))
    return argument


def _check(health: Health, health_file: Path, port: int | None) -> Check:
    checks = {
        Health.READY: answers(f"http://127.0.0.1:{port}/readyz"),
        Health.HEARTBEAT: beats(health_file),
        Health.RUNS: runs,
        Health.METRICS: answers(f"http://127.0.0.1:{port}/metrics"),
    }
    return checks[health]


def _environment(program: Program, state: StateDirectory, ports: Ports) -> dict[str, str]:
    """Return what a program is told: where things are, never a secret itself."""
    secrets, ca_file = state.secrets, str(certificates.ca_file(state))
    broker = {
        "BROKER_HOST": "127.0.0.1",
        "BROKER_PORT": str(ports.amqp_port),
        "BROKER_VHOST": VHOST,
        "BROKER_USER": program.user,
        "BROKER_PASSWORD_FILE": str(secrets / f"{program.user}.broker"),
        "BROKER_CA_FILE": ca_file,
    }
    database = {
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": str(ports.postgres_port),
        "DATABASE_NAME": f"{program.user}_service",
        "DATABASE_USER": f"{program.user}_service",
        "DATABASE_PASSWORD_FILE": str(secrets / f"{program.user}.database"),
        "DATABASE_CA_FILE": ca_file,
    }
    mail = {
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(ports.smtp_port),
        "MAIL_FROM": "The Tea Shop <orders@example.com>",
    }
    onlooker = {
        "BROKER_ADMIN_URL": management_url(ports),
        "FLOWER_PASSWORD_FILE": str(secrets / credentials.FLOWER),
    }
    others = {
        "LOG_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
        "OTLP_ENDPOINT": f"http://127.0.0.1:{ports.spans_port}",
        # A proxy of this machine's user is not for what runs here.
        "NO_PROXY": "127.0.0.1",
    }
    if program.name == "console":
        return _console_environment(state, ports) | others
    return (
        (broker if program.needs_broker else {})
        | (database | mail if program.user in WITH_DATABASE else {})
        | (onlooker if program.name == "flower" else {})
        | others
    )


def _console_environment(state: StateDirectory, ports: Ports) -> dict[str, str]:
    """Return what the operators' web page is told besides: it reaches more, with fewer rights."""
    ca_file = str(certificates.ca_file(state))
    return {
        "BROKER_ADMIN_URL": management_url(ports),
        "BROKER_ADMIN_USER": "console",
        "BROKER_ADMIN_PASSWORD_FILE": str(state.secrets / "console.broker"),
        "BROKER_PORT": str(ports.amqp_port),
        "BROKER_VHOST": VHOST,
        "BROKER_CA_FILE": ca_file,
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": str(ports.postgres_port),
        "DATABASE_CA_FILE": ca_file,
        "CONSOLE_DATABASE_PASSWORD_FILE": str(state.secrets / credentials.READER),
        "CONSOLE_PASSWORD_FILE": str(state.secrets / credentials.CONSOLE),
        "PROMETHEUS_URL": f"http://127.0.0.1:{ports.prometheus_port}",
    }
