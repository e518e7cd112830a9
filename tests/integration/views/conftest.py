"""A reader of the stream, and the web console with its own users and permissions."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp import Channel
from click.testing import CliRunner
from flask.testing import FlaskClient

from analytics_worker.stream_reader import Reader
from console.orderctl import main
from console.settings import ConsoleSettings, DatabaseSettings, load_operator
from console.web.app import create_app
from eventbus.database.db import Sessions
from testkit.processes.web_console import PASSWORD, secret
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def reader(broker: Vhost, analytics_database: Sessions) -> Iterator[Reader]:
    """A reader of the broker's stream."""
    reader = Reader(analytics_database, broker.connect)
    yield reader
    reader.close()


@pytest.fixture
def installation(
    operator_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], DatabaseSettings]:
    """A broker with the declared topology, and a function that creates the databases."""
    for name, value in operator_env.items():
        monkeypatch.setenv(name, value)
    _orderctl("topology", "apply")

    def databases() -> DatabaseSettings:
        _orderctl("database", "apply")
        return load_operator(DatabaseSettings)

    return databases


@pytest.fixture
def console_settings(
    servers: Infrastructure, vhost: Vhost, operator_env: dict[str, str], installation: object
) -> dict[str, Any]:
    """The console's settings: its own users, and no other password."""
    del installation  # the topology must exist
    return {
        "broker_admin_url": vhost.management_url,
        "broker_port": vhost.amqp_port,
        "broker_vhost": vhost.name,
        "broker_ca_file": vhost.ca_file,
        "broker_admin_user": "console",
        "broker_admin_password": secret(servers, "console.broker"),
        "database_port": servers.postgres_port,
        "database_ca_file": servers.ca_file,
        "database_suffix": operator_env["DATABASE_SUFFIX"],
        "console_database_password": secret(servers, "console.database"),
        "console_password": PASSWORD,
    }


@pytest.fixture
def console(console_settings: dict[str, Any]) -> FlaskClient:
    """A client of the web console."""
    return create_app(ConsoleSettings(**console_settings)).test_client()


@pytest.fixture
def channel(vhost: Vhost, installation: object) -> Iterator[Channel]:
    """An AMQP channel of the administrator."""
    del installation  # the topology must exist
    with vhost.connect(confirm_publish=True) as connection:
        yield connection.channel()


def _orderctl(*arguments: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
