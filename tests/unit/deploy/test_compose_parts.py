"""In containers, an override runs the relays and workers that share the work of a service."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose import parts
from deploy.local import REPOSITORY
from deploy.local.processes.parts import Division, changed, divided
from tests.support.compose import COMPOSE, SERVICES, compose_commands, run_compose

DIVIDED = Division(_env_file=None, parts="inventory=3", relays="order=2")

OVERRIDE: dict[str, dict[str, Any]] = yaml.safe_load(parts.override(DIVIDED))["services"]


def test_each_part_has_a_service() -> None:
    assert OVERRIDE.keys() - SERVICES.keys() == {
        "inventory-worker-1",
        "inventory-worker-2",
        "order-relay-1",
    }
    for part in (1, 2):
        assert OVERRIDE[f"inventory-worker-{part}"]["environment"]["WORKER_PART"] == str(part)
    for part, name in enumerate(["order-relay", "order-relay-1"]):
        environment = OVERRIDE[name]["environment"]
        assert (environment["RELAY_PART"], environment["RELAY_PARTS"]) == (str(part), "2")
    # And both programs that read the broker's queues know the number
    for name in ("console", "deploy"):
        assert OVERRIDE[name] == {"environment": {"PARTS": "inventory=3"}}


def test_a_further_service_differs_from_the_first_in_its_part_only() -> None:
    committed = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    for program in (p for p in changed(DIVIDED) if p.part):
        first, further = committed[program.shared], OVERRIDE[program.name]
        assert further["environment"] == first["environment"] | dict(program.settings)
        assert {k: v for k, v in further.items() if k not in ("command", "environment")} == {
            k: v for k, v in first.items() if k not in ("command", "environment")
        }
        assert further["command"] == f"{program.command}-%h"


def test_prometheus_scrapes_every_part(tmp_path: Path) -> None:
    # When the override is written
    parts.write(tmp_path / "parts", DIVIDED)

    # Then its Prometheus has the targets of all programs
    targets = re.findall(r'"([a-z0-9-]+):8000"', (tmp_path / "parts/prometheus.yml").read_text())
    assert set(targets) == {p.name for p in divided(DIVIDED) if p.metrics_variable}
    (mount,) = OVERRIDE["prometheus"]["volumes"]
    assert mount.split(":")[1] in {m.split(":")[1] for m in SERVICES["prometheus"]["volumes"]}


def test_an_undivided_system_has_no_further_service() -> None:
    services = yaml.safe_load(parts.override(Division(_env_file=None, parts="", relays="")))

    assert set(services["services"]) == {"deploy", "prometheus"}


def test_the_override_is_generated_and_not_committed() -> None:
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()

    assert f"{parts.DIRECTORY.relative_to(REPOSITORY)}/" in ignored


def test_docker_compose_merges_the_override(tmp_path: Path) -> None:
    if not compose_commands():
        pytest.skip("NOT RUN, there is no docker compose here: docker compose config")
    # Given the file and its override
    shutil.copy(REPOSITORY / "docker-compose.yml", tmp_path)
    (tmp_path / "parts.yml").write_text(parts.override(DIVIDED))
    files = ["-f", "docker-compose.yml", "-f", "parts.yml", "config"]

    # When Compose merges them
    for command in compose_commands():
        done = run_compose(command, files, tmp_path)

        # Then it has all services, and one configuration of Prometheus
        assert done.returncode == 0, done.stderr
        merged = yaml.safe_load(done.stdout)["services"]
        assert merged.keys() == COMPOSE["services"].keys() | OVERRIDE.keys()
        sources = dict(map(_target_and_source, merged["prometheus"]["volumes"]))
        configuration = tmp_path / "deploy/compose/parts/prometheus.yml"
        assert sources["/etc/prometheus/prometheus.yml"] == str(configuration)
        assert len(sources) == len(merged["prometheus"]["volumes"]) == 4
        assert merged["order-relay"]["environment"]["RELAY_PARTS"] == "2"


def _target_and_source(mount: str | dict[str, str]) -> tuple[str, str]:
    # Version 1 of Compose prints the short syntax.
    if isinstance(mount, str):
        source, target, *_ = mount.split(":")
        return target, source
    return mount["target"], mount["source"]
