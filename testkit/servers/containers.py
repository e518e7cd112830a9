"""The tests' broker and database as containers, of any version that has an image."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from deploy.compose import secret_files
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes import leftovers
from deploy.local.processes.health import Check, accepts_connections, answers
from deploy.local.servers import broker, certificates, credentials, database
from deploy.local.stack import write_operator_environment
from deploy.local.state import StateDirectory, create_state, delete_state, empty_state, only_one
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.workers import own_ports

#: The images, as in docker-compose.yml.
RABBITMQ_IMAGE = os.environ.get("RABBITMQ_IMAGE", "rabbitmq:4.1.4-management")
POSTGRES_IMAGE = os.environ.get("POSTGRES_IMAGE", "postgres:17.6-bookworm")

#: PostgreSQL accepts only a key whose file it owns, and it does not own a mounted file. A test's
#: data need not survive a crash of the machine.
_POSTGRES = (
    "install -m 400 /run/postgres.pem /tmp/postgres.pem;"
    " exec docker-entrypoint.sh postgres -c config_file=/etc/orders/postgresql.conf"
    " -c ssl_cert_file=/tmp/postgres.pem -c ssl_key_file=/tmp/postgres.pem"
    " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
)

#: Maximum seconds until a container responds. The first start of a broker takes ten.
PATIENCE = 120.0


@dataclass(frozen=True)
class Container:
    """A running container whose server responds."""

    container: DockerContainer
    check: Check

    @classmethod
    @contextmanager
    def running(cls, container: DockerContainer, check: Check) -> "Iterator[Container]":
        """Run a container during the block."""
        with container:
            started = cls(container, check)
            started.wait()
            yield started

    def kill(self) -> None:
        """Kill the container. Its stored data remains."""
        self.container.get_wrapped_container().kill()

    def start(self) -> None:
        """Start the container again, and wait until its server responds."""
        self.container.get_wrapped_container().start()
        self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the container's main process."""
        self.container.get_wrapped_container().kill(number.name)

    def control(self, *command: str) -> None:
        """Run a command of `rabbitmqctl` in the container."""
        code, output = self.container.get_wrapped_container().exec_run(["rabbitmqctl", *command])
        if code:
            raise RuntimeError(output.decode())

    def wait(self) -> None:
        """Wait until the server responds.

        Raises `RuntimeError` with the log if the container exits, or does not respond in time.
        """
        deadline = time.monotonic() + PATIENCE
        while problem := self.check():
            wrapped = self.container.get_wrapped_container()
            wrapped.reload()
            if wrapped.status != "running" or time.monotonic() > deadline:
                log = wrapped.logs(tail=30).decode(errors="replace")
                raise RuntimeError(f"{self.container.image} {wrapped.status}: {problem}\n{log}")
            time.sleep(0.2)


@contextmanager
def containers(state_dir: Path) -> Iterator[Infrastructure]:
    """Run a RabbitMQ and a PostgreSQL in containers during the block.

    They listen on random ports of 127.0.0.1. Ends the test run with one line if no container engine
    responds. Raises `docker.errors.DockerException` if an image is unavailable.
    """
    _require_engine()
    state = create_state(state_dir)
    with only_one(state):
        leftovers.stop(state)
        empty_state(state)
        state, ports = create_state(state_dir), own_ports()
        secret_files.write(state.secrets)
        certificates.prepare(state)
        write_operator_environment(state, ports)
        with ExitStack() as running:
            rabbitmq = running.enter_context(_rabbitmq(state, ports))
            postgres = running.enter_context(_postgres(state, ports))
            yield Infrastructure.of(state, ports, rabbitmq, postgres)
        delete_state(state_dir)


def _advanced() -> Path:
    return broker.ADVANCED_OF_3_10 if ":3.10" in RABBITMQ_IMAGE else broker.ADVANCED


@contextmanager
def _rabbitmq(state: StateDirectory, ports: Ports) -> Iterator[Container]:
    password = credentials.read(state.secrets, credentials.DEPLOYER)
    url = f"{broker.management_url(ports)}/api/health/checks/port-listener/5671"
    container = _container(
        RABBITMQ_IMAGE,
        {5671: ports.amqp_port, 15671: ports.management_port, 15692: ports.rabbitmq_metrics_port},
        {
            state.secrets
            / secret_files.BROKER_CONFIGURATION: "/etc/rabbitmq/conf.d/20-orders.conf",
            _advanced(): "/etc/rabbitmq/advanced.config",
            broker.PLUGINS: "/etc/rabbitmq/enabled_plugins",
            certificates.ca_file(state): str(secret_files.CA_FILE),
            _readable(state, "rabbitmq"): str(secret_files.BROKER_CERTIFICATE),
        },
    )
    # A node stores its data under its host name, so without a fixed name, a restart would lose the
    # data.
    container.with_kwargs(hostname="rabbitmq")
    check = answers(url, broker.DEPLOYER, password, ca_file=certificates.ca_file(state))
    with Container.running(container, check) as running:
        yield running


@contextmanager
def _postgres(state: StateDirectory, ports: Ports) -> Iterator[Container]:
    password = credentials.read(state.secrets, credentials.SUPERUSER)
    container = _container(
        POSTGRES_IMAGE,
        {5432: ports.postgres_port},
        {
            state.secrets / credentials.SUPERUSER: "/run/password",
            REPOSITORY / "deploy/compose/postgres": "/etc/orders",
            _readable(state, "postgres"): "/run/postgres.pem",
        },
    )
    container.with_env("POSTGRES_PASSWORD_FILE", "/run/password")
    container.with_kwargs(user="postgres", entrypoint=["sh", "-euc", _POSTGRES])
    check = accepts_connections(
        ports.postgres_port, database.SUPERUSER, password, ca_file=certificates.ca_file(state)
    )
    with Container.running(container, check) as running:
        yield running


def _readable(state: StateDirectory, server: str) -> Path:
    """Return a copy of a server's certificate and key that a container's user can read.

    The permissions of the secrets directory protect it from other users of this machine.
    """
    copy = state.secrets / f"{server}.pem"
    copy.write_bytes(certificates.server_file(state, server).read_bytes())
    copy.chmod(0o444)
    return copy


def _require_engine() -> None:
    try:
        client = docker.from_env()
        client.ping()
        client.close()
    except DockerException as error:
        pytest.exit(f"no Docker Engine responds: {error}", returncode=1)


def _container(image: str, ports: dict[int, int], files: dict[Path, str]) -> DockerContainer:
    container = DockerContainer(image)
    for inside, outside in ports.items():
        # The annotation lacks addresses, which the library beneath supports.
        container.ports[str(inside)] = ("127.0.0.1", outside)  # type: ignore[assignment]
    for path, place in files.items():
        container.with_volume_mapping(str(path), place, "ro")
    return container
