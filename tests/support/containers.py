"""The tests' broker and database as containers, of any version that there is an image of."""

import os
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
from deploy.local import broker, credentials, database, leftovers
from deploy.local.health import Check, accepts_connections, answers
from deploy.local.ports import Ports, free_ports
from deploy.local.stack import write_operator_environment
from deploy.local.state import StateDirectory, create_state, delete_state, empty_state, only_one
from tests.support.infrastructure import Infrastructure

#: Of the docker-compose.yml, too.
RABBITMQ_IMAGE = os.environ.get("RABBITMQ_IMAGE", "rabbitmq:4-management")
POSTGRES_IMAGE = os.environ.get("POSTGRES_IMAGE", "postgres:17")

#: Seconds until a container answers; the first start of a broker takes ten.
PATIENCE = 120.0


@dataclass(frozen=True)
class Container:
    """A container that answers."""

    container: DockerContainer
    check: Check

    @classmethod
    @contextmanager
    def running(cls, container: DockerContainer, check: Check) -> "Iterator[Container]":
        """Run it until the end of the block."""
        with container:
            started = cls(container, check)
            started.wait()
            yield started

    def kill(self) -> None:
        """End it at once; what it has stored stays."""
        self.container.get_wrapped_container().kill()

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self.container.get_wrapped_container().start()
        self.wait()

    def wait(self) -> None:
        """Wait until it answers; raises `RuntimeError` with its log when it ends or does not."""
        deadline = time.monotonic() + PATIENCE
        while wrong := self.check():
            wrapped = self.container.get_wrapped_container()
            wrapped.reload()
            if wrapped.status != "running" or time.monotonic() > deadline:
                log = wrapped.logs(tail=30).decode(errors="replace")
                raise RuntimeError(f"{self.container.image} {wrapped.status}: {wrong}\n{log}")
            time.sleep(0.2)


@contextmanager
def containers(state_dir: Path) -> Iterator[Infrastructure]:
    """Run a RabbitMQ and a PostgreSQL in containers for as long as the block lasts.

    They listen on random ports of 127.0.0.1. Ends the test run, with one line, when no engine
    answers. Raises `docker.errors.DockerException` when an image cannot be had.
    """
    _require_engine()
    state = create_state(state_dir)
    with only_one(state):
        leftovers.stop(state)
        empty_state(state)
        state, ports = create_state(state_dir), free_ports()
        secret_files.write(state.secrets)
        write_operator_environment(state, ports)
        with ExitStack() as running:
            rabbitmq = running.enter_context(_rabbitmq(state, ports))
            running.enter_context(_postgres(state, ports))
            yield Infrastructure(
                amqp_port=ports.amqp_port,
                management_url=broker.management_url(ports),
                deployer_password=credentials.read(state.secrets, credentials.DEPLOYER),
                postgres_port=ports.postgres_port,
                postgres_password=credentials.read(state.secrets, credentials.SUPERUSER),
                secrets_dir=state.secrets,
                operator_environment=state.operator_environment,
                _broker=rabbitmq,
            )
        delete_state(state_dir)


@contextmanager
def _rabbitmq(state: StateDirectory, ports: Ports) -> Iterator[Container]:
    password = credentials.read(state.secrets, credentials.DEPLOYER)
    url = f"{broker.management_url(ports)}/api/health/checks/port-listener/5672"
    container = _container(RABBITMQ_IMAGE, {5672: ports.amqp_port, 15672: ports.management_port})
    container.with_volume_mapping(
        str(state.secrets / secret_files.BROKER_CONFIGURATION),
        "/etc/rabbitmq/conf.d/20-orders.conf",
        "ro",
    )
    # A restarted node finds its data under its host's name.
    container.with_kwargs(hostname="rabbitmq")
    with Container.running(container, answers(url, broker.DEPLOYER, password)) as running:
        yield running


@contextmanager
def _postgres(state: StateDirectory, ports: Ports) -> Iterator[Container]:
    password = credentials.read(state.secrets, credentials.SUPERUSER)
    container = _container(POSTGRES_IMAGE, {5432: ports.postgres_port})
    container.with_volume_mapping(str(state.secrets / credentials.SUPERUSER), "/run/password", "ro")
    container.with_env("POSTGRES_PASSWORD_FILE", "/run/password")
    # A test's data need not survive a crash of the machine.
    container.with_command(
        "postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        " -c max_connections=200"
    )
    check = accepts_connections(ports.postgres_port, database.SUPERUSER, password)
    with Container.running(container, check) as running:
        yield running


def _require_engine() -> None:
    try:
        client = docker.from_env()
        client.ping()
        client.close()
    except DockerException as error:
        pytest.exit(f"no Docker Engine answers: {error}", returncode=1)


def _container(image: str, ports: dict[int, int]) -> DockerContainer:
    container = DockerContainer(image)
    for inside, outside in ports.items():
        # The type does not know an address, what is beneath does.
        container.ports[str(inside)] = ("127.0.0.1", outside)  # type: ignore[assignment]
    return container
