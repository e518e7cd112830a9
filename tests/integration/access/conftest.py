"""The web console over a migrated database, with its own users and permissions."""

from collections.abc import Iterator
from typing import Any

import pytest
from amqp import Channel

from common.kombu_topology import CONSOLE, INVENTORY, ORDER
from console.settings import AuditSettings, load_operator
from testkit.servers.databases import Databases
from testkit.servers.vhosts import Vhost

Environment = dict[str, str]


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
def channel(broker: Vhost) -> Iterator[Channel]:
    """An AMQP channel of the administrator, on a broker that matches the code."""
    with broker.connect(confirm_publish=True) as connection:
        yield connection.channel()
