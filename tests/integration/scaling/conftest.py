"""Fixtures of the tests that change the number of parts of a queue."""

from collections.abc import Callable, Iterator

import pytest

from console.scaling import parts as scaling
from eventbus.database import db
from eventbus.database.db import Sessions
from eventbus.outbox import relay as relays
from testkit.processes.publishers import PublisherOf, publishers
from testkit.servers.databases import TestDatabase
from testkit.servers.declaration import TIERS
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.scaling import AdministratorSettings, scale_settings
from testkit.servers.vhosts import Vhost


@pytest.fixture
def order_data(database_of: Callable[[str], TestDatabase]) -> TestDatabase:
    """The order service's database."""
    return database_of("order")


@pytest.fixture
def outbox(order_data: TestDatabase) -> Iterator[Sessions]:
    """Sessions on it, for several threads."""
    engine = db.engine(order_data.service_settings, session=relays.SESSION, pool_size=8)
    yield db.sessions(engine)
    engine.dispose()


@pytest.fixture
def settings(
    servers: Infrastructure,
    broker: Vhost,
    order_data: TestDatabase,
    database_of: Callable[[str], TestDatabase],
) -> AdministratorSettings:
    """The settings of the command."""
    others = {name: database_of(name) for name in ("inventory", "console")}
    databases = {"order": order_data} | others
    return scale_settings(servers, broker, databases, retry_tiers=TIERS)


@pytest.fixture
def publisher_of(servers: Infrastructure, broker: Vhost) -> Iterator[PublisherOf]:
    """Publishers with the user and permissions of a service."""
    with publishers(servers, broker) as make:
        yield make


@pytest.fixture
def orders_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for old counts of queues that never had a message."""
    monkeypatch.setattr(scaling, "SETTLED", 0.0)
