"""Brings PostgreSQL to what the services need: a role, a database and its tables for each."""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from common import migrations
from common.kombu_topology import DATABASES, Service
from console import reader
from console.errors import ActionError, first_line
from console.settings import READER, DatabaseAdminSettings, role_name

#: Key of the advisory lock that lets one process at a time create roles and databases.
_LOCK = 5_720_410_882

#: Seconds to wait for a connection, and for another process that does the same.
_CONNECT_TIMEOUT, _LOCK_TIMEOUT = 5, 60


def apply(settings: DatabaseAdminSettings) -> Iterator[str]:
    """Create what is missing and migrate; yields a line for each change as it is made.

    A second run yields nothing. Raises `ActionError`; what was changed until then stays, and the
    next run goes on from there.
    """
    try:
        with _connection(settings, "postgres") as connection:
            yield from _role(connection, READER, settings.database_password(READER))
        for service in DATABASES:
            yield from _apply_service(settings, service)
    except (DBAPIError, CommandError, TimeoutError) as error:
        server = f"{settings.database_host}:{settings.database_port}"
        cause = getattr(error, "orig", None) or error
        raise ActionError(f"PostgreSQL at {server}: {first_line(cause)}") from None


def _apply_service(settings: DatabaseAdminSettings, service: Service) -> Iterator[str]:
    password = settings.database_password(service.name)
    database, role = settings.database_name(service.name), role_name(service.name)
    with _connection(settings, "postgres") as connection:
        yield from _role(connection, role, password)
        yield from _database(connection, database, owner=role)
    for revision in migrations.upgrade(service.package, settings.service_url(service.name)):
        yield f"database {database}: migrated to {revision}"
    if service.name in reader.TABLES:
        with _connection(settings, database) as connection:
            yield from reader.grant(connection, service.name, database)


@contextmanager
def _connection(settings: DatabaseAdminSettings, database: str) -> Iterator[Connection]:
    """Open the administrator's connection; of several processes one at a time has it."""
    # CREATE DATABASE refuses to run in a transaction.
    engine = create_engine(
        settings.admin_url_of(database),
        poolclass=pool.NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT,
            "options": f"-c lock_timeout={_LOCK_TIMEOUT}s",
        },
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        yield connection


def _role(connection: Connection, role: str, password: str) -> Iterator[str]:
    query = text("SELECT rolpassword, rolcanlogin FROM pg_authid WHERE rolname = :role")
    row = connection.execute(query, {"role": role}).one_or_none()
    if row is None:
        _set_password(connection, "CREATE", role, password)
        yield f"role {role}: created"
    elif not (row.rolcanlogin and _is_password(row.rolpassword, password)):
        _set_password(connection, "ALTER", role, password)
        yield f"role {role}: password changed"


def _database(connection: Connection, name: str, *, owner: str) -> Iterator[str]:
    query = text(
        "SELECT pg_get_userbyid(datdba) AS owner, EXISTS ("
        "  SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0"
        ") AS public FROM pg_database WHERE datname = :name"
    )
    row = connection.execute(query, {"name": name}).one_or_none()
    if row is None:
        _ddl(connection, f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8'")
        yield f"database {name}: created"
    elif row.owner != owner:
        _ddl(connection, f"ALTER DATABASE {name} OWNER TO {owner}")
        yield f"database {name}: now owned by role {owner}"
    if row is None or row.public:
        _ddl(connection, f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        yield f"database {name}: closed to other roles"


def _set_password(connection: Connection, verb: str, role: str, password: str) -> None:
    # Only the verifier leaves this process: a statement may end in the server's log.
    verifier = _verifier(password, salt=os.urandom(16), iterations=4096)
    _ddl(connection, f"{verb} ROLE {role} LOGIN PASSWORD '{verifier}'")


def _is_password(verifier: str | None, password: str) -> bool:
    parts = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$.+", verifier or "")
    if not verifier or not parts:
        return False
    salt = base64.b64decode(parts[2])
    return hmac.compare_digest(verifier, _verifier(password, salt=salt, iterations=int(parts[1])))


def _verifier(password: str, *, salt: bytes, iterations: int) -> str:
    # RFC 5803, as PostgreSQL stores it in pg_authid.
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_64, stored_64, server_64 = (
        base64.b64encode(value).decode() for value in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${iterations}:{salt_64}${stored_64}:{server_64}"


def _ddl(connection: Connection, statement: str) -> None:
    # Names come from the code and verifiers are base64: nothing here needs quoting.
    connection.exec_driver_sql(statement)
