"""A database for each test: a copy of a template that was migrated once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, create_engine, pool, text

from common import migrations, tls
from common.kombu_topology import DATABASES
from common.settings import ServiceSettings
from tests.support.infrastructure import Infrastructure


@dataclass(frozen=True)
class TestDatabase:
    """A database of one service."""

    __test__ = False

    url: URL
    ca_file: Path

    @property
    def settings(self) -> dict[str, Any]:
        """What a process is told about it."""
        return {
            "database_host": self.url.host,
            "database_port": self.url.port,
            "database_name": self.url.database,
            "database_user": self.url.username,
            "database_password": self.url.password,
            "database_ca_file": self.ca_file,
        }

    @property
    def service_settings(self) -> ServiceSettings:
        """The same as settings, for code that needs no broker."""
        return ServiceSettings(
            broker_user="nobody",
            broker_password="none",
            broker_ca_file=self.ca_file,
            **self.settings,
        )


@dataclass(frozen=True)
class Databases:
    """The server's migrated templates."""

    server: URL
    ca_file: Path

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
        databases = cls(server, servers.ca_file)
        for service in DATABASES:
            template = f"template_{service.name}"
            databases._run(f"CREATE DATABASE {template}")
            migrations.upgrade(service.package, server.set(database=template))
        return databases

    @contextmanager
    def fresh(self) -> Iterator[Callable[[str], TestDatabase]]:
        """Make databases for one test, and drop them after it."""
        made: list[str] = []

        def create(service: str) -> TestDatabase:
            name = f"test_{service}_{uuid4().hex[:8]}"
            self._run(f"CREATE DATABASE {name} TEMPLATE template_{service}")
            made.append(name)
            return TestDatabase(self.server.set(database=name), self.ca_file)

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
            migrations.upgrade(package, self.server.set(database=name))
            yield TestDatabase(self.server.set(database=name), self.ca_file)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def drop_all(self, suffix: str) -> None:
        """Drop every service's database whose name ends so."""
        for service in DATABASES:
            self._run(f"DROP DATABASE IF EXISTS {service.name}_service{suffix} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        engine = create_engine(self.server, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
