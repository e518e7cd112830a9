"""A broker and a database of the tests' own, beside whatever else runs on this machine."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

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
from testkit.servers.workers import own_ports


class Broker(Protocol):
    """A broker that a test takes away and gives back."""

    def kill(self) -> None:
        """End it at once."""

    def start(self) -> None:
        """Start it again, with all that it held, and wait until it answers."""

    def control(self, *command: str) -> None:
        """Run a command of `rabbitmqctl`."""


@dataclass
class Infrastructure:
    """Where an empty RabbitMQ and an empty PostgreSQL are, and who may administer them."""

    amqp_port: int
    management_url: str
    broker_metrics_port: int
    deployer_password: str
    postgres_port: int
    postgres_password: str
    #: One file for each password of the system, as in a local run.
    secrets_dir: Path
    #: What every client trusts; beside it is the authority's key.
    ca_file: Path
    #: What `orderctl` reads to administer them.
    operator_environment: Path
    _broker: Broker
    #: Of the broker, so far.
    restarts: int = 0

    @contextmanager
    def limited(self, command: str, limit: str, usual: str) -> Iterator[None]:
        """Give the broker a limit that it is beyond, for as long as the block lasts."""
        self._broker.control(command, *limit.split())
        try:
            yield
        finally:
            self._broker.control(command, *usual.split())

    def stop_broker(self) -> None:
        """Kill the broker."""
        self._broker.kill()

    def start_broker(self) -> None:
        """Start the broker again, with all that it held, and wait until it answers."""
        self.restarts += 1
        self._broker.start()


@dataclass(frozen=True)
class _BrokerProcess:
    state: StateDirectory
    supervision: Supervision
    process: Process

    def kill(self) -> None:
        self.supervision.kill(INFRASTRUCTURE, self.process)

    def start(self) -> None:
        self.supervision.start(INFRASTRUCTURE, [self.process])
        # A watch of its own: one that has seen all the tests' restarts would call it broken.
        Watch(self.state, self.supervision).until_healthy([self.process])

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
    """Run a RabbitMQ and a PostgreSQL, on random ports, for as long as the block lasts.

    They end with this process, even when it is killed. What an earlier, killed run left in
    `state_dir` is stopped and deleted first; at the end nothing is left. Raises
    `deploy.local.problem.Problem` naming the process that does not start, or when another run
    uses the same directory. `durable` is for measurements: a test's data need not survive.
    """
    state = create_state(state_dir)
    with only_one(state):
        leftovers.stop(state)
        empty_state(state)
        with _running(create_state(state_dir), durable) as running:
            yield running
        # Not after a failure: its logs are here.
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
        # An orderly end takes six seconds and serves nobody.
        *(replace(process, stop_signal="KILL") for process in broker.processes(state, ports)),
        database.process(state, ports, durable=durable),
    )
    supervision = Supervision(state)
    supervision.configure({INFRASTRUCTURE: processes})
    supervisor = supervision.launch_attached()
    try:
        supervision.start(INFRASTRUCTURE, processes)
        Watch(state, supervision).until_healthy(processes)
        yield Infrastructure(
            amqp_port=ports.amqp_port,
            management_url=broker.management_url(ports),
            broker_metrics_port=ports.rabbitmq_metrics_port,
            deployer_password=credentials.read(state.secrets, credentials.DEPLOYER),
            postgres_port=ports.postgres_port,
            postgres_password=credentials.read(state.secrets, credentials.SUPERUSER),
            secrets_dir=state.secrets,
            ca_file=certificates.ca_file(state),
            operator_environment=state.operator_environment,
            _broker=_BrokerProcess(
                state,
                supervision,
                next(process for process in processes if process.name == "rabbitmq"),
            ),
        )
    finally:
        supervision.stop()
        supervisor.wait()
