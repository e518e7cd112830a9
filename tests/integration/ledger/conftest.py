"""Fixtures for tests of the ledger."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

from common.kombu_topology import SERVICES
from console.settings import LedgerSettings
from eventbus.database import db
from eventbus.outbox.relay import Relay
from testkit.data.accounted import AccountedSystem
from testkit.processes.publishers import PublisherOf
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def system(
    servers: Infrastructure,
    databases: Databases,
    broker: Vhost,
    migrated_env: dict[str, str],
    publisher_of: PublisherOf,
) -> Iterator[AccountedSystem]:
    """A broker and databases in which every service has handled one event."""
    settings = LedgerSettings(
        _env_file=servers.operator_environment,
        **broker.administrator,
        database_suffix=migrated_env["DATABASE_SUFFIX"],
    )
    engines = {
        service.name: create_engine(
            databases.server.set(database=settings.database_name(service.name)),
            hide_parameters=True,
        )
        for service in SERVICES
    }
    sessions = {name: db.sessions(engine) for name, engine in engines.items()}
    relay = Relay(sessions["order"], publisher_of("order"))
    system = AccountedSystem(settings, migrated_env, broker, sessions, relay)
    system.publish(1)
    system.handle_all()
    yield system
    for engine in engines.values():
        engine.dispose()
