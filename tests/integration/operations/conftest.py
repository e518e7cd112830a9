"""Fixtures for tests of `orderctl` against a broker."""

from collections.abc import Callable, Iterator

import pytest
from amqp import Channel
from click.testing import Result

from common.kombu_topology import SERVICES
from console.actions import subscribe, topology
from console.settings import load_operator
from eventbus.database.db import Sessions, engine_of
from testkit.processes.orderctl import orderctl
from testkit.servers.administration import administration
from testkit.servers.databases import TestDatabase
from testkit.servers.declaration import TIERS
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.management import Management
from testkit.servers.vhosts import Vhost
from testkit.versions.migrated import use_services
from testkit.versions.retirement import AdministratorSettings, MigratedSystem
from tests.support.operator_settings import OperatorSettings


@pytest.fixture
def management(vhost: Vhost) -> Iterator[Management]:
    """The management API, as the administrator of the test's vhost."""
    client = Management(vhost)
    yield client
    client.close()


@pytest.fixture
def applied(operator_env: dict[str, str], broker: Vhost) -> dict[str, str]:
    """The environment of `orderctl` for a broker that matches the code."""
    assert operator_env["BROKER_VHOST"] == broker.name
    return operator_env


@pytest.fixture
def env(applied: dict[str, str], migrated_env: dict[str, str]) -> dict[str, str]:
    """The environment of `orderctl` for a broker and databases that match the code."""
    assert applied == migrated_env
    return applied


@pytest.fixture
def settings(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> OperatorSettings:
    """The settings of `orderctl`."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return load_operator(OperatorSettings)


@pytest.fixture
def channel(vhost: Vhost, applied: dict[str, str]) -> Iterator[Channel]:
    """An AMQP channel on a broker that matches the code."""
    del applied
    with vhost.connect(confirm_publish=True) as connection:
        yield connection.channel()


@pytest.fixture(name="orderctl")
def orderctl_on_vhost(servers: Infrastructure, vhost: Vhost) -> Callable[..., Result]:
    """`orderctl` with the environment of the test's vhost; keyword arguments add variables."""
    environment = {
        "ORDERS_ENV_FILE": str(servers.operator_environment),
        "BROKER_VHOST": vhost.name,
        "BROKER_PORT": str(vhost.amqp_port),
        "RETRY_TIERS": ",".join(map(str, TIERS)),
    }
    return lambda *arguments, **changes: orderctl(environment | changes, *arguments)


@pytest.fixture
def no_settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Omit the wait of `orderctl subscribe` for events in flight."""
    monkeypatch.setattr(subscribe, "SETTLED", 0.0)


@pytest.fixture
def sessions_of(
    order_database: Sessions, inventory_database: Sessions, notification_database: Sessions
) -> dict[str, Sessions]:
    """Sessions on the databases of three services, by service."""
    return {
        "order": order_database,
        "inventory": inventory_database,
        "notification": notification_database,
    }


@pytest.fixture
def migrated(
    servers: Infrastructure,
    broker: Vhost,
    sessions_of: dict[str, Sessions],
    database_of: Callable[[str], TestDatabase],
    monkeypatch: pytest.MonkeyPatch,
) -> MigratedSystem:
    """A broker and databases after the move to the second version, without events."""
    names = {name: str(engine_of(s).url.database) for name, s in sessions_of.items()}
    for service in SERVICES:
        if service.name not in names:
            names[service.name] = str(database_of(service.name).url.database)
    settings = AdministratorSettings(**administration(servers, broker, names), retry_tiers=TIERS)
    use_services(monkeypatch)
    list(topology.apply(settings, prune=True))  # type: ignore[arg-type]
    return MigratedSystem(settings, broker)
