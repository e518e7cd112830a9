"""The secrets of a local run: generated once, each in a file that only its owner can read."""

import secrets
from pathlib import Path

from common.kombu_topology import DATABASES, topology
from deploy.local.problem import Problem
from deploy.local.servers import account

#: The API key of the user that runs `make up`; created as soon as there is a database to store it.
API_KEY = "local.api-key"

#: The API key with which the console ships and cancels orders.
CONSOLE_KEY = "console.api-key"

#: The broker user that applies the topology, and the database's superuser.
DEPLOYER = "deployer.broker"
SUPERUSER = "postgres.database"

#: The passwords for Flower and for the web console.
FLOWER = "operator.flower"
CONSOLE = "operator.console"

#: The password of the console's roles: in its own database, and in the services' databases.
READER = "console.database"


def names() -> list[str]:
    """Return the name of every secret of the system."""
    return [
        *(f"{user.name}.broker" for user in topology().users),
        *(f"{service.name}.database" for service in DATABASES),
        DEPLOYER,
        SUPERUSER,
        FLOWER,
        CONSOLE,
        CONSOLE_KEY,
    ]


def generate(directory: Path) -> None:
    """Write every secret that does not exist yet."""
    for name in names():
        if not (directory / name).exists():
            account.invoking().file(directory / name, _new(name) + "\n")


def _new(name: str) -> str:
    if name != CONSOLE_KEY:
        return secrets.token_hex(24)
    # The import is here, because it is slow, and a run generates its secrets once.
    from order_app.storage import api_keys

    # The key has no effect until it is registered.
    return api_keys.generate()


def read(directory: Path, name: str) -> str:
    """Return one secret. Raises `Problem` if it was never generated."""
    try:
        return (directory / name).read_text().rstrip("\n")
    except FileNotFoundError:
        raise Problem(f"the secret {directory / name} is missing; run: make up") from None
