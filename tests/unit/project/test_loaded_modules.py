"""A process loads no library that it does not use, because each costs every process its memory."""

import json
import subprocess
import sys

import pytest

from deploy.local import REPOSITORY
from deploy.local.processes.programs import PROGRAMS

#: The command that runs the apps, and the modules of the apps.
COMMAND = "eventbus.__main__"
APPS = {
    program.name: program.command.split("-A ")[1].split()[0]
    for program in PROGRAMS
    if " -m eventbus " in program.command
}

#: Flower with its server, and the parts of the `celery` command that need a terminal.
UNUSED = {"flower", "tornado", "click_repl", "prompt_toolkit"}


def loaded(*modules: str) -> set[str]:
    """Return the packages that a process has loaded after importing these modules."""
    code = "import importlib, json, sys; [importlib.import_module(m) for m in sys.argv[1:]]; "
    code += "print(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *modules],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def test_no_process_of_a_service_loads_flower_or_a_terminal() -> None:
    assert len(APPS) == 10

    packages = loaded(COMMAND, *APPS.values())

    assert {"celery", "sqlalchemy"} <= packages
    assert not packages & UNUSED


def test_beat_loads_no_database_driver() -> None:
    packages = loaded(COMMAND, APPS["beat"], "celery.apps.beat", "scheduler.punctual")

    assert "celery" in packages
    assert not packages & {"sqlalchemy", "psycopg2", *UNUSED}


@pytest.mark.parametrize("environment", ["dev", "run"])
def test_flower_is_installed_in_its_own_environment_only(environment: str) -> None:
    pins = (REPOSITORY / f"requirements/{environment}.txt").read_text()
    own = (REPOSITORY / "requirements/flower.txt").read_text()

    assert "\nflower==" not in pins
    assert "\ntornado==" not in pins
    assert "\nflower==" in own
    assert {p.venv for p in PROGRAMS if p.name == "flower"} == {".venv/flower"}
