"""Databases of tests: copies of templates that are migrated once.

A test copies more databases than it uses, because the system under test has all of them. A copy
that no session has opened is given to a later test under another name.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import URL, Engine, create_engine, text

from common.kombu_topology import DATABASES
from common.kombu_topology import service as find
from console.actions import database as actions
from console.settings import DatabaseAdminSettings, DatabaseSettings, owner_name
from eventbus import tls
from eventbus.database import db, migrations
from eventbus.settings.service import ServiceSettings
from eventbus.topology.service import Service
from testkit.eventually import eventually
from testkit.servers.infrastructure import Infrastructure

#: The suffix of the templates' names.
_TEMPLATE = "_template"

#: The state of a database. The state changes with the first session, with a change of an attribute,
#: and with a restart of the server, which may reset the number of sessions. Open sessions are
#: counted before that number, because a session is added to it before it leaves the list.
_STATE = text(
    "SELECT datname, concat_ws(' ',"
    " (SELECT count(*) FROM pg_stat_activity AS session"
    "    WHERE session.datid = pg_database.oid AND backend_type = 'client backend'),"
    " pg_stat_get_db_sessions(oid), pg_stat_get_db_stat_reset_time(oid), xmin,"
    " (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = pg_database.oid),"
    " pg_postmaster_start_time())"
    " FROM pg_database WHERE datname = ANY (:names)"
)


@dataclass(frozen=True)
class TestDatabase:
    """A database of one service."""

    __test__ = False

    #: The URL of the test itself, with the permissions of the superuser.
    url: URL
    ca_file: Path
    #: The URL of the service, with the permissions of its processes. By default, the test's URL.
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
            # Tests insert many rows at once, and a busy machine takes seconds for that.
            database_statement_timeout=60.0,
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
    #: The service and the state of each copy in use, by name.
    _copies: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    #: The names of unopened copies that no test uses, by service.
    _spare: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list), repr=False)

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
        # The call is repeated, because a connection may time out if the machine stalls.
        eventually(lambda: list(actions.apply(settings)))
        return cls(server, settings)

    @contextmanager
    def fresh(self) -> Iterator[Callable[[str], TestDatabase]]:
        """Yield a function that creates databases, and drop them after the block."""
        names: list[str] = []

        def create(service: str) -> TestDatabase:
            name = f"test_{service}_{uuid4().hex[:8]}"
            self._copy({name: service})
            names.append(name)
            return self._opened(service, name)

        yield create
        self._drop(names)

    def existing(self, service: str, suffix: str) -> TestDatabase:
        """Return a service's database with this suffix, which `create_all` has created."""
        return self._opened(service, f"{service}_service{suffix}")

    @contextmanager
    def collated(self, service: str) -> Iterator[TestDatabase]:
        """Create a service's database whose collation does not sort by code point.

        In this database, deadlocks are also detected quickly.
        """
        name = f"test_{service}_{uuid4().hex[:8]}"
        self._run(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' "
            "LOCALE_PROVIDER icu ICU_LOCALE 'und' LOCALE 'C'"
        )
        try:
            self._run(f"ALTER DATABASE {name} SET deadlock_timeout = '50ms'")
            url = self.server.set(database=name)
            migrations.upgrade(find(service), url)
            yield TestDatabase(url, self.settings.database_ca_file, url)
        finally:
            self._drop([name])

    def create_all(self, suffix: str, services: Sequence[Service] = DATABASES) -> None:
        """Create the migrated database of each service, with this suffix in its name.

        The databases equal those that `orderctl database apply` creates, except that only
        administrators can connect.
        """
        self._copy({f"{service.name}_service{suffix}": service.name for service in services})

    def drop_all(self, suffix: str) -> None:
        """Drop the database of every service with this suffix."""
        self._drop([f"{service.name}_service{suffix}" for service in DATABASES])

    def _opened(self, service: str, name: str) -> TestDatabase:
        role, password = self.settings.login(service)
        url = self.server.set(database=name)
        runtime = url.set(username=role, password=password.get_secret_value())
        return TestDatabase(url, self.settings.database_ca_file, runtime)

    def _copy(self, services: Mapping[str, str]) -> None:
        """Create the database of each of these services, by the names of the databases."""
        for name, service in services.items():
            if self._spare[service]:
                self._run(f"ALTER DATABASE {self._spare[service].pop()} RENAME TO {name}")
            else:
                template, owner = self.settings.database_name(service), owner_name(service)
                self._run(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
        states = self._states(services)
        self._copies.update({name: (services[name], states[name]) for name in services})

    def _drop(self, names: Iterable[str]) -> None:
        """Drop the databases that exist, except for unopened copies."""
        for name, state in self._states(names).items():
            service, unopened = self._copies.pop(name, ("", ""))
            if state == unopened:
                self._spare[service].append(name)
            else:
                self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _states(self, names: Iterable[str]) -> dict[str, str]:
        with self._engine.connect() as connection:
            return dict(connection.execute(_STATE, {"names": [*names]}).all())

    def _run(self, statement: str) -> None:
        with self._engine.connect() as connection:
            connection.execute(text(statement))

    @cached_property
    def _engine(self) -> Engine:
        # All calls use one connection, which is opened again after a restart of the server.
        return create_engine(
            self.server, isolation_level="AUTOCOMMIT", pool_size=1, pool_pre_ping=True
        )


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
