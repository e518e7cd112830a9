"""A private broker and database server, independent of other processes on this machine."""

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from deploy.local.ports import Ports
from deploy.local.processes import leftovers
from deploy.local.processes.process import Process
from deploy.local.processes.supervision import Supervision
from deploy.local.processes.watch import Watch
from deploy.local.servers import broker, certificates, credentials, database
from deploy.local.stack import INFRASTRUCTURE, write_operator_environment
from deploy.local.state import (
    StateDirectory,
    create_state,
    delete_state,
    empty_state,
    only_one,
)
from testkit.servers.memory import in_memory
from testkit.servers.workers import own_ports


class Server(Protocol):
    """A server that a test can stop and start again."""

    def kill(self) -> None:
        """Stop the server. A broker is killed, whereas a database first ends its sessions."""

    def start(self) -> None:
        """Start the server again with its data, and wait until it responds."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's main process."""


class Broker(Server, Protocol):
    """A broker that a test can also configure."""

    def control(self, *command: str) -> None:
        """Run a command of `rabbitmqctl`."""


@dataclass
class Infrastructure:
    """The addresses and the administrators of a RabbitMQ and a PostgreSQL."""

    amqp_port: int
    management_url: str
    broker_metrics_port: int
    deployer_password: str
    postgres_port: int
    postgres_password: str
    #: A file for each password of the system, as in a local run.
    secrets_dir: Path
    #: The certificate that every client trusts. The CA's key is in the same folder.
    ca_file: Path
    #: The environment file of `orderctl`.
    operator_environment: Path
    _broker: Broker
    _database: Server
    #: The number of restarts of the broker.
    restarts: int = 0

    @classmethod
    def of(
        cls, state: StateDirectory, ports: Ports, rabbitmq: Broker, postgres: Server
    ) -> "Infrastructure":
        """Return the servers on these ports, whose passwords and certificates are in `state`."""
        return cls(
            amqp_port=ports.amqp_port,
            management_url=broker.management_url(ports),
            broker_metrics_port=ports.rabbitmq_metrics_port,
            deployer_password=credentials.read(state.secrets, credentials.DEPLOYER),
            postgres_port=ports.postgres_port,
            postgres_password=credentials.read(state.secrets, credentials.SUPERUSER),
            secrets_dir=state.secrets,
            ca_file=certificates.ca_file(state),
            operator_environment=state.operator_environment,
            _broker=rabbitmq,
            _database=postgres,
        )

    @contextmanager
    def limited(self, command: str, limit: str, usual: str) -> Iterator[None]:
        """Set a limit that the broker exceeds, and restore the usual limit after the block."""
        self._broker.control(command, *limit.split())
        try:
            yield
        finally:
            self._broker.control(command, *usual.split())

    def stop_broker(self) -> None:
        """Kill the broker."""
        self._broker.kill()

    def start_broker(self) -> None:
        """Start the broker again with its data, and wait until it responds."""
        self.restarts += 1
        self._broker.start()

    @contextmanager
    def broker_suspended(self) -> Iterator[None]:
        """Suspend the broker during the block. Its connections remain, but it does not respond."""
        self._broker.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._broker.signal(signal.SIGCONT)

    @contextmanager
    def broker_shut_down(self) -> Iterator[None]:
        """Shut the broker down cleanly during the block."""
        self._broker.control("stop_app")
        try:
            yield
        finally:
            self.restarts += 1
            self._broker.control("start_app")

    def start_database(self) -> None:
        """Start the database server if it is down, and wait until it accepts connections."""
        self._database.start()

    @contextmanager
    def database_shut_down(self) -> Iterator[None]:
        """Shut the database server down during the block."""
        self._database.kill()
        try:
            yield
        finally:
            self.start_database()


#: The variable with the arguments of Erlang, and an additional argument: several nodes with a
#: scheduler for each processor would compete for the processors.
ERLANG = "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"
FEW_SCHEDULERS = " +S 1:1"


@dataclass(frozen=True)
class _ServerProcess:
    state: StateDirectory
    supervision: Supervision
    process: Process

    def kill(self) -> None:
        self.supervision.kill(INFRASTRUCTURE, self.process)

    def start(self) -> None:
        self.supervision.start(INFRASTRUCTURE, [self.process])
        # A new watch is used, because a watch that counts the restarts of all tests would report
        # the broker as broken.
        Watch(self.state, self.supervision).until_healthy([self.process])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.supervision.reports()[self.process.name].pid, number)

    def control(self, *command: str, program: str = "rabbitmqctl") -> None:
        process = self.process
        subprocess.run(
            [f"/usr/lib/rabbitmq/bin/{program}", "-n", "orders@localhost", *command],
            check=True,
            capture_output=True,
            cwd=process.directory,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **process.environment},
            **process.account.subprocess_arguments(),
        )


@contextmanager
def infrastructure(state_dir: Path, *, durable: bool = False) -> Iterator[Infrastructure]:
    """Run a RabbitMQ and a PostgreSQL on random ports during the block.

    They exit with this process, even when it is killed. Processes and files that a killed run has
    left in `state_dir` are stopped and deleted first, and all files are deleted at the end. Raises
    `deploy.local.problem.Problem` with the name of a process that does not start, or if another
    run uses the directory. `durable` is required for measurements and for kills of the database
    server. The data of other tests need not survive, and is in memory.
    """
    if not durable:
        in_memory(state_dir)
    state = create_state(state_dir)
    with only_one(state):
        leftovers.stop(state)
        empty_state(state)
        with _running(create_state(state_dir), durable) as running:
            yield running
        # The files are not deleted after a failure, because they contain its logs.
        delete_state(state_dir)


@contextmanager
def _running(state: StateDirectory, durable: bool) -> Iterator[Infrastructure]:
    ports = own_ports()
    credentials.generate(state.secrets)
    certificates.prepare(state)
    write_operator_environment(state, ports)
    broker.prepare(state, ports)
    database.prepare(state, ports, durable=durable)
    processes = (
        *(_fast(process, durable) for process in broker.processes(state, ports)),
        database.process(state, ports, durable=durable),
    )
    supervision = Supervision(state)
    supervision.configure({INFRASTRUCTURE: processes})
    supervisor = supervision.launch_attached()
    try:
        supervision.start(INFRASTRUCTURE, processes)
        Watch(state, supervision).until_healthy(processes)
        yield Infrastructure.of(
            state,
            ports,
            _server(state, supervision, processes, "rabbitmq"),
            _server(state, supervision, processes, "postgres"),
        )
    finally:
        supervision.stop()
        supervisor.wait()


def _fast(process: Process, durable: bool) -> Process:
    """Return a process of the broker with settings that cost less, unless it is `durable`."""
    environment = dict(process.environment)
    if ERLANG in environment and not durable:
        environment[ERLANG] += FEW_SCHEDULERS
    # A clean shutdown takes six seconds, and has no benefit here.
    return replace(process, environment=environment, stop_signal="KILL")


def _server(
    state: StateDirectory, supervision: Supervision, processes: Iterable[Process], name: str
) -> _ServerProcess:
    process = next(process for process in processes if process.name == name)
    return _ServerProcess(state, supervision, process)
