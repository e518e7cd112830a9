"""A whole local run: its processes, started and stopped in order."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.local import mail_server, sample
from deploy.local.ports import Ports, require_free
from deploy.local.processes import leftovers, programs
from deploy.local.processes.parts import Division, divided, stored_division
from deploy.local.processes.process import Process
from deploy.local.processes.supervision import Supervision
from deploy.local.processes.watch import Watch, ailment
from deploy.local.progress import step
from deploy.local.servers import broker, certificates, credentials, database, prometheus
from deploy.local.servers.account import invoking
from deploy.local.state import StateDirectory, delete

INFRASTRUCTURE = "infrastructure"
APPLICATION = "application"


@dataclass(frozen=True)
class Stack:
    """Everything that runs for one state directory."""

    state: StateDirectory
    ports: Ports
    #: The servers, the database first.
    infrastructure: Sequence[Process]
    application: Sequence[Process]

    @property
    def processes(self) -> tuple[Process, ...]:
        """Every process, in start order."""
        return (*self.infrastructure, *self.application)

    @property
    def supervision(self) -> Supervision:
        """The supervisor of all processes."""
        return Supervision(self.state)


def prepare(state: StateDirectory, ports: Ports, division: Division | None = None) -> None:
    """Write every secret, configuration and data directory of a run; start nothing.

    `division` contains its numbers of relays and of parts of queues; by default one of each.
    """
    division = division or Division(_env_file=None)
    invoking().file(state.division, division.model_dump_json())
    credentials.generate(state.secrets)
    certificates.prepare(state)
    invoking().file(state.ports, ports.model_dump_json())
    write_operator_environment(state, ports)
    broker.prepare(state, ports)
    database.prepare(state, ports)
    prometheus.prepare(state, ports)


def describe(state: StateDirectory, ports: Ports) -> Stack:
    """Return the processes of a prepared state directory, running or not."""
    return Stack(
        state=state,
        ports=ports,
        infrastructure=(
            database.process(state, ports),
            *broker.processes(state, ports),
            mail_server.process(ports),
            prometheus.process(state, ports),
        ),
        application=programs.processes(state, ports, divided(stored_division(state))),
    )


def up(stack: Stack) -> None:
    """Start everything and wait until it is healthy; running processes are left alone.

    Raises `Problem` for the first obstacle.
    """
    _supervise(stack)
    watch = Watch(stack.state, stack.supervision)
    _start(stack, INFRASTRUCTURE, stack.infrastructure)
    if _stopped(stack, stack.application):
        _start_application(stack, watch)
    elif not healthy(stack):
        watch.until_healthy(stack.infrastructure)
    if not healthy(stack):
        watch.until_healthy(stack.application)


def healthy(stack: Stack) -> bool:
    """Return whether every process is healthy now."""
    reports = stack.supervision.reports()
    return all(ailment(process, reports.get(process.name)) is None for process in stack.processes)


def down(state: StateDirectory) -> int:
    """Stop every process of this state directory; return the number of processes."""
    return Supervision(state).stop()


def write_operator_environment(state: StateDirectory, ports: Ports) -> None:
    """Write the settings of `orderctl` for this run: the files of secrets, not the secrets."""
    values = {
        "BROKER_ADMIN_URL": broker.management_url(ports),
        "BROKER_PORT": ports.amqp_port,
        "BROKER_VHOST": broker.VHOST,
        "BROKER_ADMIN_USER": broker.DEPLOYER,
        "BROKER_ADMIN_PASSWORD_FILE": state.secrets / credentials.DEPLOYER,
        "BROKER_CA_FILE": certificates.ca_file(state),
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": ports.postgres_port,
        "DATABASE_ADMIN_USER": database.SUPERUSER,
        "DATABASE_ADMIN_PASSWORD_FILE": state.secrets / credentials.SUPERUSER,
        "DATABASE_CA_FILE": certificates.ca_file(state),
        "SECRETS_DIR": state.secrets,
        "TLS_DIR": state.tls,
        "PARTS": stored_division(state).text(),
    }
    lines = (f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())
    invoking().file(state.operator_environment, "".join(lines))


def _supervise(stack: Stack) -> None:
    supervision = stack.supervision
    groups = {INFRASTRUCTURE: stack.infrastructure, APPLICATION: stack.application}
    supervision.configure(groups)
    if not supervision.runs():
        if leftovers.find(stack.state):
            with step("stopping processes of an earlier run"):
                leftovers.stop(stack.state)
        for path in stack.state.temporary.iterdir():
            delete(path)
        for process in stack.processes:
            require_free(process.name, process.ports)
        supervision.launch()
    elif supervision.is_outdated():
        with step("stopping processes with a changed configuration"):
            supervision.update()


def _start_application(stack: Stack, watch: Watch) -> None:
    # RabbitMQ starts slowest by far: processes that need only the database do not wait for it.
    watch.until_healthy(stack.infrastructure[:1])
    with step("applying database migrations"):
        sample.orderctl(stack.state, "database", "apply")
        sample.register_console_key(stack.state)
    early = [p for p in stack.application if p.name in programs.WITHOUT_BROKER]
    _start(stack, APPLICATION, early)
    watch.until_healthy(stack.infrastructure[1:])
    with step("applying the broker's topology"):
        sample.orderctl(stack.state, "topology", "apply")
    _start(stack, APPLICATION, stack.application)


def _stopped(stack: Stack, processes: Sequence[Process]) -> list[Process]:
    reports = stack.supervision.reports()
    return [
        process
        for process in processes
        if process.name not in reports or not reports[process.name].runs
    ]


def _start(stack: Stack, group: str, processes: Sequence[Process]) -> bool:
    stopped = _stopped(stack, processes)
    if stopped:
        stack.state.complete.unlink(missing_ok=True)
    for process in stopped:
        require_free(process.name, process.ports)
        for path in process.transient:
            delete(path)
    stack.supervision.start(group, stopped)
    return bool(stopped)
