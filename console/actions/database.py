"""The objects of each service in PostgreSQL: two roles, a database and its tables."""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from common.kombu_topology import DATABASES
from console.databases import collation, permissions, reader_role, roles
from console.databases.change import Change
from console.errors import ActionError, first_line
from console.settings import READER, DatabaseAdminSettings, owner_name, role_name
from eventbus.database import db, migrations
from eventbus.topology.service import Service

#: Key of the advisory lock that allows only one process at a time to create roles and databases.
_LOCK = 5_720_410_882

#: Seconds to wait for a connection, and for a process that holds the lock.
_CONNECT_TIMEOUT, _LOCK_TIMEOUT = 5, 60


def apply(settings: DatabaseAdminSettings) -> Iterator[str]:
    """Create missing objects and migrate, and yield a line for each change as it is made.

    A second run yields nothing. Raises `ActionError`. Earlier changes stay, and the next run
    continues from there.
    """
    with _explained(settings):
        with _connection(settings, "postgres") as connection:
            yield from _apply_all(connection, _reader(connection, settings))
        for service in DATABASES:
            yield from _apply_service(settings, service)


def plan(settings: DatabaseAdminSettings) -> Iterator[str]:
    """Yield a line for each change that `apply` would make or leave to the operator.

    Changes nothing. Raises `ActionError`.
    """
    with _explained(settings), _connection(settings, "postgres") as connection:
        yield from (change.text for change in _reader(connection, settings))
        for service in DATABASES:
            yield from (change.text for change in _server(connection, settings, service))
            if collation.of(connection, name := settings.database_name(service.name)):
                yield from _plan_database(settings, service)
                yield from collation.problems(connection, name)


def _reader(connection: Connection, settings: DatabaseAdminSettings) -> Iterator[Change]:
    return roles.login(connection, READER, settings.database_password(READER))


def _plan_database(settings: DatabaseAdminSettings, service: Service) -> Iterator[str]:
    database, role = settings.database_name(service.name), role_name(service.name)
    url = settings.admin_url_of(database)
    with _connection(settings, database) as connection:
        owner = owner_name(service.name)
        changes = permissions.ownership(connection, database, owner=owner, role=role)
        yield from (change.text for change in changes)
    if pending := migrations.pending(service, url):
        # Permissions depend on the tables that these revisions create.
        yield from (f"database {database}: revision {r} is pending" for r in pending)
        return
    with _connection(settings, database) as connection:
        changes = permissions.rights(connection, database, role=role)
        yield from (change.text for change in changes)
        granted = reader_role.rights(connection, service.name, database)
        yield from (change.text for change in granted)


def _apply_service(settings: DatabaseAdminSettings, service: Service) -> Iterator[str]:
    database, role = settings.database_name(service.name), role_name(service.name)
    owner = owner_name(service.name)
    with _connection(settings, "postgres") as connection:
        yield from _apply_all(connection, _server(connection, settings, service))
    with _connection(settings, database) as connection:
        changes = permissions.ownership(connection, database, owner=owner, role=role)
        yield from _apply_all(connection, changes)
    url = settings.admin_url_of(database)
    for revision in migrations.upgrade(service, url, role=owner):
        yield f"database {database}: migrated to {revision}"
    with _connection(settings, database) as connection:
        changes = permissions.rights(connection, database, role=role)
        yield from _apply_all(connection, changes)
        yield from _apply_all(connection, reader_role.rights(connection, service.name, database))


def _server(
    connection: Connection, settings: DatabaseAdminSettings, service: Service
) -> Iterator[Change]:
    """Yield the changes that create a service's two roles and its database."""
    owner, password = owner_name(service.name), settings.database_password(service.name)
    yield from roles.owner(connection, owner)
    yield from roles.login(connection, role_name(service.name), password)
    yield from _database(connection, settings.database_name(service.name), owner=owner)


def _apply_all(connection: Connection, changes: Iterator[Change]) -> Iterator[str]:
    for change in changes:
        change.make(connection)
        yield change.text


def _database(connection: Connection, name: str, *, owner: str) -> Iterator[Change]:
    query = text(
        "SELECT EXISTS ("
        "  SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0"
        ") FROM pg_database WHERE datname = :name"
    )
    is_public = connection.scalar(query, {"name": name})
    if is_public is None:
        yield Change(
            text=f"database {name}: created",
            statement=f"CREATE DATABASE {name} OWNER {owner} {collation.OPTIONS}",
        )
    if is_public is not False:
        yield Change(
            text=f"database {name}: access revoked from other roles",
            statement=f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        )


@contextmanager
def _explained(settings: DatabaseAdminSettings) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, CommandError, TimeoutError) as error:
        server = f"{settings.database_host}:{settings.database_port}"
        cause = getattr(error, "orig", None) or error
        raise ActionError(f"PostgreSQL at {server}: {first_line(cause)}") from None


@contextmanager
def _connection(settings: DatabaseAdminSettings, database: str) -> Iterator[Connection]:
    """Open the administrator's connection; one process at a time can hold it."""
    # CREATE DATABASE cannot run in a transaction.
    engine = create_engine(
        settings.admin_url_of(database),
        poolclass=pool.NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT,
            "options": f"-c lock_timeout={_LOCK_TIMEOUT}s",
            **db.LIVENESS,
        },
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        yield connection
