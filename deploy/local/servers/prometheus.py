"""Prometheus: the metrics of all processes and the broker, kept for two days, and its alerts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes.health import answers
from deploy.local.processes.parts import divided, stored_division
from deploy.local.processes.process import Process
from deploy.local.processes.programs import PROGRAMS, Health, Program
from deploy.local.servers import certificates
from deploy.local.servers.account import invoking
from deploy.local.state import StateDirectory
from deploy.local.templates import render

SERVER = "/usr/bin/prometheus"
RULES = REPOSITORY / "deploy/prometheus/alerts.yml"

#: Seconds between two scrapes, and between two evaluations of the rules.
INTERVAL = 5


@dataclass(frozen=True)
class Target:
    """A process of the application that serves metrics, and the labels that identify it.

    `key_file` contains the API key that it requires.
    """

    port: int
    service: str
    process: str
    host: str = "127.0.0.1"
    key_file: Path | None = None


def targets(ports: Ports, programs: Sequence[Program] = PROGRAMS) -> list[Target]:
    """Return every process of the application that serves metrics."""
    return [
        Target(port, program.user, program.name)
        for program in programs
        if (port := program.metrics_port(ports))
    ]


def monitors(ports: Ports) -> dict[str, str]:
    """Return the addresses of the programs with metrics from the workers' task events."""
    installed = [p for p in PROGRAMS if p.health is Health.METRICS and p.is_installed]
    return {program.name: f"127.0.0.1:{ports.of(program.port)}" for program in installed}


def configuration(
    targets: Iterable[Target],
    *,
    broker_port: int,
    monitors: Mapping[str, str],
    ca_file: Path,
    broker_host: str = "127.0.0.1",
    interval: int = INTERVAL,
    rules: Path = RULES,
) -> str:
    """Return Prometheus's configuration: its targets, its interval in seconds, and its alerts.

    `broker_host` and `broker_port` are those of RabbitMQ's own metrics, whose certificate `ca_file`
    has signed; `monitors` are addresses by the program's name.
    """
    return render(
        "prometheus.yml.j2",
        targets=targets,
        broker=f"{broker_host}:{broker_port}",
        broker_host=broker_host,
        monitors=monitors,
        ca_file=ca_file,
        interval=interval,
        rules=rules,
    )


def command(home: Path, port: int) -> tuple[str, ...]:
    """Return the server's command; `home` contains its `prometheus.yml`, and later its data."""
    return (
        SERVER,
        f"--config.file={home}/prometheus.yml",
        f"--storage.tsdb.path={home}/data",
        "--storage.tsdb.retention.time=2d",
        f"--web.listen-address=127.0.0.1:{port}",
    )


def prepare(state: StateDirectory, ports: Ports) -> None:
    """Write the server's configuration; data of an earlier run is kept."""
    home = invoking().directory(_home(state))
    invoking().file(home / "prometheus.yml", _configuration(state, ports))


def process(state: StateDirectory, ports: Ports) -> Process:
    """Return the server."""
    configured = _configuration(state, ports) + RULES.read_text()
    return Process(
        name="prometheus",
        command=command(_home(state), ports.prometheus_port),
        # A changed configuration is a changed process: the supervisor restarts it.
        environment={"CONFIGURATION": sha256(configured.encode()).hexdigest()},
        check=answers(f"{url(ports)}/-/ready"),
        ports={"PROMETHEUS_PORT": ports.prometheus_port},
        # It writes a log of its running queries to its working directory.
        directory=_home(state),
        url=url(ports),
    )


def url(ports: Ports) -> str:
    """Return the address of Prometheus's HTTP API and its pages."""
    return f"http://127.0.0.1:{ports.prometheus_port}"


def _home(state: StateDirectory) -> Path:
    return state.path / "prometheus"


def _configuration(state: StateDirectory, ports: Ports) -> str:
    return configuration(
        targets(ports, divided(stored_division(state))),
        broker_port=ports.rabbitmq_metrics_port,
        monitors=monitors(ports),
        ca_file=certificates.ca_file(state),
    )
