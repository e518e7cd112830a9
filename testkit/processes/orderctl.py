"""`orderctl`, run in the process of a test."""

import json
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from console.orderctl import main


def orderctl(environment: Mapping[str, str], *arguments: str, answer: str | None = None) -> Result:
    """Run a command with these environment variables; `answer` is its standard input."""
    return CliRunner().invoke(main, arguments, env=environment, input=answer)


def topology_differences(environment: Mapping[str, str]) -> list[str]:
    """Return the report of `orderctl topology plan`, and check its exit status."""
    result = orderctl(environment, "topology", "plan", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == (2 if document["drift"] else 0)
    return [f"{d['kind']} {d['name']}: {d['problem']}" for d in document["differences"]]


def empty_environment_file(directory: Path) -> Path:
    """Return an empty file for `ORDERS_ENV_FILE`, instead of the file of a running system.

    The directory is created if it is missing.
    """
    directory.mkdir(exist_ok=True)
    file = directory / "operator.env"
    file.touch()
    return file
