"""The application's processes: one table, from which every deployment is derived."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from common.kombu_topology import DATABASES, SERVICES
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes.health import Check, answers, beats, remark, runs
from deploy.local.processes.process import Process
from deploy.local.processes.program import Health as Health
from deploy.local.processes.program import Program as Program
from deploy.local.servers import certificates, credentials
from deploy.local.servers.broker import VHOST, management_url
from deploy.local.state import StateDirectory
from eventbus.topology.service import Service


def _of(service: Service) -> Iterator[Program]:
    """Yield the Celery processes of a service: a worker if it consumes, and one for each tick."""
    start = f"python -m eventbus -A {service.package}"
    if service.consumes:
        command = f"{start}.worker worker -n {service.name}@{service.name}"
        yield Program(f"{service.name}-worker", service.name, command)
    for tick in service.ticks:
        name = f"{service.name}-{tick}"
        yield Program(name, service.name, f"{start}.{tick} worker -n {name}@{service.name}")


#: In start order. `$NAME` in a command is a variable of the program's environment.
PROGRAMS = (
    # The span store is first, so that it receives the first spans of the other programs.
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
    *(program for service in SERVICES for program in _of(service)),
    Program("beat", "scheduler", "python -m eventbus -A scheduler.beat beat", Health.RUNS),
    Program(
        "flower",
        "monitor",
        "python -m monitor.flower",
        Health.METRICS,
        "flower_port",
        venv=".venv/flower",
    ),
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

#: A local run has only one client, which may be a load test, so the limit exceeds the number of
#: requests that an API process can handle in a minute.
API_ENVIRONMENT = {"API_RATE_LIMIT": "1000000"}

#: Programs that work as soon as there is a database: the API accepts orders while RabbitMQ is down.
WITHOUT_BROKER = frozenset(program.name for program in PROGRAMS if not program.needs_broker)

WITH_DATABASE = frozenset(owner.name for owner in DATABASES)


def processes(
    state: StateDirectory, ports: Ports, programs: Sequence[Program] = PROGRAMS
) -> tuple[Process, ...]:
    """Return every installed program as a supervised process."""
    return tuple(_process(program, state, ports) for program in programs if program.is_installed)


def api_url(ports: Ports) -> str:
    """Return the address of the orders API."""
    return f"http://127.0.0.1:{ports.api_port}"


def flower_url(ports: Ports) -> str:
    """Return the address of Flower, which requires a login."""
    return f"http://127.0.0.1:{ports.flower_port}"


def console_url(ports: Ports) -> str:
    """Return the address of the web console, which requires a login."""
    return f"http://127.0.0.1:{ports.console_port}"


def _process(program: Program, state: StateDirectory, ports: Ports) -> Process:
    executable, *arguments = program.command.split()
    # The API's processes keep their counts in files there.
    metrics = state.path / "metrics" / program.name
    health_file = state.health / program.name
    serves = getattr(ports, program.port) if program.port else None
    variable = program.metrics_variable
    by_health = {
        Health.READY: {"PROMETHEUS_MULTIPROC_DIR": str(metrics)},
        Health.HEARTBEAT: {
            "HEALTH_FILE": str(health_file),
            "METRICS_PORT": str(program.metrics_port(ports) or ""),
        },
        Health.RUNS: {},
        Health.METRICS: {program.port.upper(): str(serves)},
    }
    if program.name == "api":
        by_health[program.health] |= API_ENVIRONMENT
    return Process(
        name=program.name,
        command=(
            str(REPOSITORY / program.venv / "bin" / executable),
            *(filled(argument, ports) for argument in arguments),
        ),
        environment=_environment(program, state, ports)
        | by_health[program.health]
        | dict(program.settings),
        transient=(metrics, health_file),
        check=_check(program.health, health_file, serves),
        remark=partial(remark, health_file) if program.health is Health.HEARTBEAT else runs,
        ports={
            name: ports.of(name) + program.distance
            for name in {variable, program.port.upper()}
            if name
        },
        url={
            "api": api_url(ports),
            "console": console_url(ports),
            "flower": flower_url(ports),
        }.get(program.name, ""),
        stop_seconds=30,
    )


def filled(argument: str, ports: Ports) -> str:
    """Return an argument of a command with the ports filled in."""
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
    """Return the settings of a program: addresses and files, never a secret itself."""
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
    monitoring = {
        "BROKER_ADMIN_URL": management_url(ports),
        "FLOWER_PASSWORD_FILE": str(secrets / credentials.FLOWER),
    }
    common = {
        "LOG_LEVEL": "INFO",
        "PYTHONUNBUFFERED": "1",
        "OTLP_ENDPOINT": f"http://127.0.0.1:{ports.spans_port}",
        # A proxy of this machine's user does not apply to local addresses.
        "NO_PROXY": "127.0.0.1",
    }
    if program.name == "console":
        return _console_environment(state, ports) | common
    return (
        (broker if program.needs_broker else {})
        | (database | mail if program.user in WITH_DATABASE else {})
        | (monitoring if program.name == "flower" else {})
        | common
    )


def _console_environment(state: StateDirectory, ports: Ports) -> dict[str, str]:
    """Return the settings of the web console.

    It connects to more databases than a service does, but with fewer permissions.
    """
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
        "ORDER_API_URL": api_url(ports),
        "ORDER_API_KEY_FILE": str(state.secrets / credentials.CONSOLE_KEY),
        "PROMETHEUS_URL": f"http://127.0.0.1:{ports.prometheus_port}",
    }
