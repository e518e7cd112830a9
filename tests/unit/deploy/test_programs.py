"""The environments of the programs of a local run."""

from pathlib import Path

import pytest

from common.kombu_topology import SERVICES
from deploy.local.ports import Ports
from deploy.local.problem import Problem
from deploy.local.processes.parts import (
    Division,
    configured_division,
    divided,
    stored_division,
)
from deploy.local.processes.programs import PROGRAMS, WITHOUT_BROKER, processes
from deploy.local.state import StateDirectory


def test_programs_that_start_before_the_broker_get_no_address(tmp_path: Path) -> None:
    # When the environments of all programs are built
    has_address = {
        process.name: any(name.startswith("BROKER_") for name in process.environment)
        for process in processes(StateDirectory(tmp_path), Ports())
    }

    # Then these programs have no address of the broker
    assert {name for name, broker in has_address.items() if not broker} == WITHOUT_BROKER
    assert {"api", "spans"} == WITHOUT_BROKER


def test_programs_of_services_that_are_not_essential_are_background_work() -> None:
    background = {program.user for program in PROGRAMS if program.is_background}

    assert background == {service.name for service in SERVICES if not service.essential}
    assert background == {"notification", "fraud", "analytics"}


def test_relays_and_workers_have_parts(tmp_path: Path) -> None:
    # Given a run with three parts of a queue and two relays of an outbox
    division = Division(_env_file=None, parts="inventory=3", relays="order=2")
    state = StateDirectory(tmp_path)

    # When its processes are described
    running = {p.name: p for p in processes(state, Ports(), divided(division))}
    usual = {p.name for p in processes(state, Ports())}

    # Then each part has a process
    assert set(running) - usual == {"inventory-worker-1", "inventory-worker-2", "order-relay-1"}
    for part, name in enumerate(["inventory-worker", "inventory-worker-1", "inventory-worker-2"]):
        assert running[name].environment["WORKER_PART"] == str(part)
    for part, name in enumerate(["order-relay", "order-relay-1"]):
        environment = running[name].environment
        assert (environment["RELAY_PART"], environment["RELAY_PARTS"]) == (str(part), "2")
    # And names and ports that no other has
    commands = [process.command for process in running.values()]
    assert len(set(commands)) == len(commands)
    ports = [port for p in running.values() if (port := p.environment.get("METRICS_PORT"))]
    assert len(set(ports)) == len(ports)
    assert running["console"].environment["PARTS"] == "inventory=3"


@pytest.mark.parametrize(
    ("variable", "value"), [("PARTS", "inventory"), ("RELAYS", "order=65"), ("RELAYS", "mail=2")]
)
def test_an_invalid_division_is_a_problem_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(Problem, match=f"^{variable}: "):
        configured_division(tmp_path / ".env")


def test_the_division_of_the_last_start_is_stored(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    division = Division(_env_file=None, parts="inventory=3", relays="order=2")
    state.division.write_text(division.model_dump_json())

    assert stored_division(state) == division
    assert stored_division(StateDirectory(tmp_path / "other")) == Division(_env_file=None)
