"""The environments of the programs of a local run."""

from pathlib import Path

from deploy.local.ports import Ports
from deploy.local.processes.programs import WITHOUT_BROKER, processes
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
