"""`orderctl`, run in the process of a test."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from click.testing import CliRunner, Result

from console.orderctl import main
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


def environment_of(
    servers: Infrastructure, vhost: Vhost, suffix: str, tiers: Sequence[float]
) -> dict[str, str]:
    """Return the environment of `orderctl` for a vhost, and for databases with this suffix."""
    return {
        "ORDERS_ENV_FILE": str(servers.operator_environment),
        "BROKER_VHOST": vhost.name,
        "BROKER_PORT": str(vhost.amqp_port),
        "DATABASE_SUFFIX": suffix,
        "RETRY_TIERS": ",".join(map(str, tiers)),
    }


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
