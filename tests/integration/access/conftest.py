"""The web console over a migrated database, with its own users and permissions."""

from collections.abc import Iterator
from typing import Any

import pytest
from amqp import Channel
from flask.testing import FlaskClient

from common.kombu_topology import CONSOLE, INVENTORY, ORDER
from console.settings import AuditSettings, ConsoleSettings, load_operator
from console.web.app import create_app
from testkit.processes.web_console import PASSWORD, secret
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
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
def console_settings(
    servers: Infrastructure, vhost: Vhost, database: AuditSettings
) -> dict[str, Any]:
    """The console's settings: its own users, and no other password."""
    return {
        "broker_admin_url": vhost.management_url,
        "broker_port": vhost.amqp_port,
        "broker_vhost": vhost.name,
        "broker_ca_file": vhost.ca_file,
        "broker_admin_user": "console",
        "broker_admin_password": secret(servers, "console.broker"),
        "database_port": servers.postgres_port,
        "database_ca_file": servers.ca_file,
        "database_suffix": database.database_suffix,
        "console_database_password": secret(servers, "console.database"),
        "console_password": PASSWORD,
    }


@pytest.fixture
def console(console_settings: dict[str, Any]) -> FlaskClient:
    """A client of the web console."""
    return create_app(ConsoleSettings(**console_settings)).test_client()


@pytest.fixture
def channel(broker: Vhost) -> Iterator[Channel]:
    """An AMQP channel of the administrator, on a broker that matches the code."""
    with broker.connect(confirm_publish=True) as connection:
        yield connection.channel()
