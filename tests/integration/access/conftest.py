"""The web console over a migrated database, with its own users and permissions."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from common.kombu_topology import CONSOLE, INVENTORY, ORDER
from console.access import passwords, people
from console.access.models import Role
from console.databases.service_database import transaction
from console.settings import AuditSettings, ConsoleSettings, load_operator
from console.web.app import create_app
from testkit.processes.web_console import log_in
from testkit.servers.databases import Databases
from testkit.servers.vhosts import Vhost

Environment = dict[str, str]

#: A hash of a few milliseconds.
_METHOD = "scrypt:1024:8:1"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with less work; each log-in takes a tenth of a second otherwise."""
    monkeypatch.setattr(passwords, "_METHOD", _METHOD)
    monkeypatch.setattr(passwords, "_NO_HASH", f"{_METHOD}$none${'0' * 128}")


@pytest.fixture
def env(operator_env: Environment, databases: Databases) -> Environment:
    """The environment of `orderctl` for the console's database and those of two services."""
    databases.create_all(operator_env["DATABASE_SUFFIX"], (CONSOLE, ORDER, INVENTORY))
    return operator_env


@pytest.fixture
def database(env: Environment, monkeypatch: pytest.MonkeyPatch) -> AuditSettings:
    """The operator's settings for these databases."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return load_operator(AuditSettings)


@pytest.fixture
def console_settings(console_settings: dict[str, Any], database: AuditSettings) -> dict[str, Any]:
    """The settings of the console for these databases."""
    assert console_settings["database_suffix"] == database.database_suffix
    return console_settings


@pytest.fixture
def logged_in(
    console_settings: dict[str, Any], database: AuditSettings
) -> Callable[..., FlaskClient]:
    """A function that adds a person with a role, and returns their browser."""

    def add(name: str, role: Role, *services: str) -> FlaskClient:
        with transaction(database, CONSOLE) as session:
            password = people.add(session, name, role, services)
        client = create_app(ConsoleSettings(**console_settings)).test_client()
        assert log_in(client, name, password).status_code == 303
        return client

    return add


@pytest.fixture
def channel(broker: Vhost) -> Iterator[Channel]:
    """An AMQP channel of the administrator, on a broker that matches the code."""
    with broker.connect(confirm_publish=True) as connection:
        yield connection.channel()
