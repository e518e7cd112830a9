"""docker-compose.yml: its services, and the programs of a local run that they correspond to."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local import REPOSITORY
from deploy.local.processes.programs import PROGRAMS, Program
from monitor.settings import ExporterSettings, FlowerSettings

#: The whole file.
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())

SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

for _service in SERVICES.values():
    # A path that a variable can replace has its default value here.
    _service["volumes"] = [
        re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume) for volume in _service.get("volumes", [])
    ]

#: The services that run the image of this project.
OURS = {name: s for name, s in SERVICES.items() if "ORDERS_IMAGE" in s["image"]}

#: A program of a local run, and the service that replaces it in containers.
REPLACED = {
    # Jaeger stores and shows spans. It is not a Debian package, so local runs cannot use it.
    "spans": "jaeger",
}

#: Virtual environments of a local run that are not on `PATH`, and their places in the image.
ENVIRONMENTS = {".venv/exporter": "/opt/exporter", ".venv/flower": "/opt/flower"}

#: The settings of the programs whose port is not on their command line.
PORT_SETTINGS = {"flower": FlowerSettings, "exporter": ExporterSettings}

#: The programs of a local run that also run in containers.
PROGRAMS_HERE = [program for program in PROGRAMS if program.name not in REPLACED]

every_service = pytest.mark.parametrize("name", SERVICES)

every_program = pytest.mark.parametrize("program", PROGRAMS_HERE, ids=lambda p: p.name)


def mounts(service: dict[str, Any]) -> set[str]:
    """Return the mounts of a service, in the short syntax of Compose."""
    return set(service.get("volumes", []))


@cache
def compose_commands() -> list[list[str]]:
    """Return the Compose commands that work on this machine."""
    commands = (["docker", "compose"], ["docker-compose"])
    here = [command for command in commands if shutil.which(command[0])]
    return [c for c in here if run_compose(c, ["version"]).returncode == 0]


def run_compose(
    command: Sequence[str], arguments: Sequence[str], directory: Path = REPOSITORY
) -> "subprocess.CompletedProcess[str]":
    """Run a Compose command in a directory."""
    return subprocess.run(
        [*command, *arguments], cwd=directory, capture_output=True, text=True, check=False
    )


def own_port(program: Program) -> int:
    """Return the port that a program listens on, which must be its default."""
    assert program.port.upper() not in OURS[program.name]["environment"]
    port: int = PORT_SETTINGS[program.name].model_fields[program.port].default
    return port
