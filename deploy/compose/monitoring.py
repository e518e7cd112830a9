"""Prometheus's targets in containers: the same processes as in a local run, by their names."""

from collections.abc import Sequence
from pathlib import Path

from deploy.compose import secret_files
from deploy.local import REPOSITORY
from deploy.local.ports import Ports
from deploy.local.processes.programs import PROGRAMS, Program
from deploy.local.servers import prometheus

#: The configuration file, which is committed, because docker-compose.yml mounts it.
FILE = REPOSITORY / "deploy/compose/prometheus.yml"

#: The path at which docker-compose.yml mounts the alerts.
RULES = Path("/etc/prometheus/alerts.yml")

#: The file with Prometheus's key for the API, the only program that requires one.
KEY_FILE = Path("/run/secrets") / secret_files.PROMETHEUS

#: The port of each container's metrics, and of the whole API.
PORT = 8000


def configuration(programs: Sequence[Program] = PROGRAMS) -> str:
    """Return the configuration of a Prometheus that scrapes these programs."""
    return prometheus.configuration(
        [
            prometheus.Target(
                PORT,
                program.user,
                program.name,
                host=program.name,
                key_file=KEY_FILE if program.name == "api" else None,
            )
            for program in programs
            if program.metrics_variable
        ],
        monitors={"flower": "flower:5555", "exporter": "exporter:9808"},
        ca_file=secret_files.CA_FILE,
        broker_host="rabbitmq",
        broker_port=Ports.model_construct().rabbitmq_metrics_port,
        rules=RULES,
    )
