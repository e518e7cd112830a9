"""A database for each test: a copy of a template that was migrated once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, create_engine, pool, text

from common.kombu_topology import DATABASES
from console.actions import database as actions
from console.settings import DatabaseAdminSettings, owner_name
from eventbus import tls
from eventbus.database import migrations
from eventbus.settings.service import ServiceSettings
from testkit.servers.infrastructure import Infrastructure

#: Ends the names of the templates.
_TEMPLATE = "_template"


@dataclass(frozen=True)
class TestDatabase:
    """A database of one service."""

    __test__ = False

    #: The test's own, by which it may do everything.
    url: URL
    ca_file: Path
    #: The service's, with the rights of a running process; the test's own unless given.
    runtime: URL | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What a process is told about it."""
        return self._settings(self.runtime or self.url)

    @property
    def service_settings(self) -> ServiceSettings:
        """The test's own access, for code that needs no broker."""
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
    """The server's templates, as `orderctl database apply` makes them."""

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
        """Make databases for one test, and drop them after it."""
        made: list[str] = []

        def create(service: str) -> TestDatabase:
            name = f"test_{service}_{uuid4().hex[:8]}"
            template = self.settings.database_name(service)
            owner = owner_name(service)
            self._run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
            made.append(name)
            role, password = self.settings.login(service)
            url = self.server.set(database=name)
            runtime = url.set(username=role, password=password.get_secret_value())
            return TestDatabase(url, self.settings.database_ca_file, runtime)

        yield create
        for name in made:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    @contextmanager
    def collated(self, service: str) -> Iterator[TestDatabase]:
        """Make a service's database whose collation is not the order of code points.

        It also finds deadlocks soon.
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

    def create_all(self, suffix: str) -> None:
        """Make every service's database, migrated, with a name that ends so.

        As `orderctl database apply` makes them, but for the right to connect: for administrators.
        """
        for service in DATABASES:
            template = self.settings.database_name(service.name)
            self._run(
                f"CREATE DATABASE {service.name}_service{suffix} TEMPLATE {template}"
                f" OWNER {owner_name(service.name)}"
            )

    def drop_all(self, suffix: str) -> None:
        """Drop every service's database whose name ends so."""
        for service in DATABASES:
            self._run(f"DROP DATABASE IF EXISTS {service.name}_service{suffix} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        engine = create_engine(self.server, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
