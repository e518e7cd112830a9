"""A reader of the stream, and the web console with its own users and permissions."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from amqp import Channel

from analytics_worker.stream_reader import Reader
from console.settings import DatabaseSettings, load_operator
from eventbus.database.db import Sessions
from testkit.servers.databases import Databases
from testkit.servers.vhosts import Vhost


@pytest.fixture
def reader(broker: Vhost, analytics_database: Sessions) -> Iterator[Reader]:
    """A reader of the broker's stream."""
    reader = Reader(analytics_database, broker.connect)
    yield reader
    reader.close()


@pytest.fixture
def installation(
    operator_env: dict[str, str],
    broker: Vhost,
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[], DatabaseSettings]:
    """A broker with the declared topology, and a function that creates the databases."""
    assert operator_env["BROKER_VHOST"] == broker.name
    for name, value in operator_env.items():
        monkeypatch.setenv(name, value)

    def created() -> DatabaseSettings:
        databases.create_all(operator_env["DATABASE_SUFFIX"])
        return load_operator(DatabaseSettings)

    return created


@pytest.fixture
def installed(installation: Callable[[], DatabaseSettings]) -> DatabaseSettings:
    """The databases, and the settings of `orderctl` for them."""
    return installation()


@pytest.fixture
def console_settings(console_settings: dict[str, Any], installation: object) -> dict[str, Any]:
    """The settings of the console for a broker with the declared topology."""
    del installation  # the topology must exist
    return console_settings


@pytest.fixture
def channel(vhost: Vhost, installation: object) -> Iterator[Channel]:
    """An AMQP channel of the administrator."""
    del installation  # the topology must exist
    with vhost.connect(confirm_publish=True) as connection:
        yield connection.channel()
