"""Databases of tests: copies of templates that are migrated once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, create_engine, pool, text

from common.kombu_topology import DATABASES
from console.actions import database as actions
from console.settings import DatabaseAdminSettings, DatabaseSettings, owner_name
from eventbus import tls
from eventbus.database import db, migrations
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import Service
from testkit.servers.infrastructure import Infrastructure

#: The suffix of the templates' names.
_TEMPLATE = "_template"


@dataclass(frozen=True)
class TestDatabase:
    """A database of one service."""

    __test__ = False

    #: The URL of the test itself, with the permissions of the superuser.
    url: URL
    ca_file: Path
    #: The URL of the service, with the permissions of its processes; by default that of the test.
    runtime: URL | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a process that uses the database."""
        return self._settings(self.runtime or self.url)

    @property
    def service_settings(self) -> ServiceSettings:
        """The settings with the test's permissions, for code without a broker."""
        return ServiceSettings(
            broker_user="nobody",
            broker_password="none",
            broker_ca_file=self.ca_file,
            **self._settings(self.url),
        )

    def _settings(self, url: URL) -> dict[str, Any]:
        return {
            "database_host": url.host,
            "database_port": url.port,
            "database_name": url.database,
            "database_user": url.username,
            "database_password": url.password,
            "database_ca_file": self.ca_file,
        }


@dataclass(frozen=True)
class Databases:
    """The templates on a server, as `orderctl database apply` creates them."""

    server: URL
    settings: DatabaseAdminSettings

    @classmethod
    def prepare(cls, servers: Infrastructure) -> "Databases":
        """Create and migrate a template for each service."""
        server = URL.create(
            "postgresql+psycopg2",
            username="postgres",
            password=servers.postgres_password,
            host="127.0.0.1",
            port=servers.postgres_port,
            database="postgres",
            query=tls.database_options(servers.ca_file),
        )
        settings = DatabaseAdminSettings(
            _env_file=servers.operator_environment, database_suffix=_TEMPLATE
        )
        list(actions.apply(settings))
        return cls(server, settings)

    @contextmanager
    def fresh(self) -> Iterator[Callable[[str], TestDatabase]]:
        """Yield a function that creates databases, and drop them after the block."""
        names: list[str] = []

        def create(service: str) -> TestDatabase:
            name = f"test_{service}_{uuid4().hex[:8]}"
            template = self.settings.database_name(service)
            owner = owner_name(service)
            self._run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
            names.append(name)
            role, password = self.settings.login(service)
            url = self.server.set(database=name)
            runtime = url.set(username=role, password=password.get_secret_value())
            return TestDatabase(url, self.settings.database_ca_file, runtime)

        yield create
        for name in names:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def collated(self, service: str) -> Iterator[TestDatabase]:
        """Create a service's database whose collation does not sort by code point.

        It also detects deadlocks quickly.
        """
        package = next(s.package for s in DATABASES if s.name == service)
        name = f"test_{service}_{uuid4().hex[:8]}"
        self._run(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' "
            "LOCALE_PROVIDER icu ICU_LOCALE 'und' LOCALE 'C'"
        )
        try:
            self._run(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
            url = self.server.set(database=name)
            migrations.upgrade(package, url)
            yield TestDatabase(url, self.settings.database_ca_file, url)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def create_all(self, suffix: str, services: Sequence[Service] = DATABASES) -> None:
        """Create the migrated database of each service, with this suffix in its name.

        As `orderctl database apply` creates them, except for the permission to connect: only
        administrators can.
        """
        for service in services:
            template = self.settings.database_name(service.name)
            self._run(
                f"CREATE DATABASE {service.name}_service{suffix} TEMPLATE {template}"
                f" OWNER {owner_name(service.name)}"
            )

    def drop_all(self, suffix: str) -> None:
        """Drop the database of every service with this suffix."""
        for service in DATABASES:
            self._run(f"DROP DATABASE IF EXISTS {service.name}_service{suffix} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        engine = create_engine(self.server, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))


def service_url(settings: DatabaseSettings, service: str) -> URL:
    """Return the address of a service's database, with the service's own credentials."""
    role, password = settings.login(service)
    server = db.server_url(
        settings.database_host, settings.database_port, settings.database_ca_file
    )
    return server.set(
        username=role,
        password=password.get_secret_value(),
        database=settings.database_name(service),
    )
