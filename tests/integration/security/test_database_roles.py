"""Every database role against every database.

The expected rights are written by hand; the actual ones are tried on a real server.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from uuid import uuid4

import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from common.kombu_topology import DATABASES
from console.orderctl import main
from console.settings import (
    READER,
    DatabaseAdminSettings,
    DatabaseSettings,
    load_operator,
    owner_name,
    role_name,
)
from testkit.servers.databases import Databases, service_url
from testkit.servers.infrastructure import Infrastructure

NAMES = [service.name for service in DATABASES]

#: By service, the tables that the console may read; not API keys or emails.
READABLE = {
    "order": (
        "orders",
        "order_lines",
        "cancellations",
        "shipments",
        "outbox",
        "inbox",
        "relay_state",
        "operator_pause",
    ),
    "inventory": (
        *("stock", "stock_entries", "stock_movements", "reservations", "reservation_lines"),
        *("outbox", "relay_state", "inbox", "operator_pause"),
    ),
    "fraud": ("outbox", "relay_state", "inbox", "overflow", "operator_pause"),
    "notification": ("inbox", "overflow", "operator_pause"),
    "trace": ("spans",),
    "analytics": ("minutes", "sku_minutes", "stream_position", "skipped_events", "inbox"),
}

#: By table, the console's rights where it may do more than read: it pauses services.
CHANGEABLE = {"operator_pause": {"SELECT", "INSERT", "DELETE"}}

#: Statements that a service may run.
ROWS = {
    "select": "SELECT FROM {table}",
    "insert": "INSERT INTO {table} DEFAULT VALUES",
    "update": "UPDATE {table} SET {column} = {column}",
    "delete": "DELETE FROM {table}",
}

#: Statements that a service must not run.
DEFINITIONS = {
    "truncate": "TRUNCATE {table} CASCADE",
    "drop": "DROP TABLE {table} CASCADE",
    "alter": "ALTER TABLE {table} ADD COLUMN mine int",
    "rename": "ALTER TABLE {table} RENAME TO mine",
    "index": "CREATE INDEX mine ON {table} ({column})",
    "trigger": "CREATE TRIGGER mine BEFORE INSERT ON {table} EXECUTE FUNCTION"
    " suppress_redundant_updates_trigger()",
    "policy": "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
    "take": "ALTER TABLE {table} OWNER TO {role}",
}

#: Statements that no service may run in its database or server.
ADMINISTRATION = (
    "CREATE TABLE mine (id int)",
    "CREATE SCHEMA mine",
    "CREATE TEMPORARY TABLE mine (id int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION pg_trgm",
    "DROP SCHEMA public CASCADE",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT rolpassword FROM pg_authid",
    "SET ROLE postgres",
    "SET ROLE {owner}",
    "GRANT {owner} TO {role}",
    "ALTER ROLE {role} SUPERUSER",
    "DROP DATABASE {database}",
    "ALTER DATABASE {database} OWNER TO {role}",
)

#: Every right on a table.
RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")

#: The engines with open connections.
opened: set[Engine] = set()

_REFUSED = re.compile(
    r"permission denied|must be (owner|superuser|able)|"
    r"(role|column|schema) .* does not exist|must have admin option"
)


@pytest.fixture(scope="module")
def installation(servers: Infrastructure, databases: Databases) -> Iterator[DatabaseAdminSettings]:
    """Roles and databases, created by `orderctl database apply`; no test leaves a change."""
    suffix = f"_{uuid4().hex[:8]}"
    environment = {
        "ORDERS_ENV_FILE": str(servers.operator_environment),
        "DATABASE_SUFFIX": suffix,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        applied = CliRunner().invoke(main, ["database", "apply"])
        assert applied.exit_code == 0, applied.output
        yield load_operator(DatabaseAdminSettings)
    for each in opened:
        each.dispose()
    databases.drop_all(suffix)


@cache
def engine(url: URL, level: str) -> Engine:
    # Hundreds of statements are tried; a login for each would take most of the time.
    return create_engine(url, pool_size=1, isolation_level=level)


@contextmanager
def connected(url: URL, *, autocommit: bool = False) -> Iterator[Connection]:
    with engine(url, "AUTOCOMMIT" if autocommit else "READ COMMITTED").connect() as connection:
        opened.add(connection.engine)
        yield connection


def refusal(url: URL, statement: str, *, autocommit: bool = False) -> str:
    """Run a statement, rolled back if possible; return the server's error, or an empty text."""
    try:
        with connected(url, autocommit=autocommit) as connection:
            connection.execute(text(statement))
    except DBAPIError as error:
        return str(error.orig).strip()
    return ""


def tables(
    settings: DatabaseAdminSettings, service: str, kind: str = "BASE TABLE"
) -> list[tuple[str, str]]:
    """Return each table or view of a service, with one of its columns."""
    query = text(
        "SELECT table_name, min(column_name) FROM information_schema.columns"
        " JOIN information_schema.tables USING (table_schema, table_name)"
        " WHERE table_schema = 'public' AND is_generated = 'NEVER' AND is_identity = 'NO'"
        " AND table_type = :kind GROUP BY table_name ORDER BY table_name"
    )
    with connected(settings.admin_url_of(settings.database_name(service))) as connection:
        return [(table, column) for table, column in connection.execute(query, {"kind": kind})]


@pytest.mark.parametrize("service", NAMES)
def test_a_service_role_changes_rows_but_not_definitions(
    installation: DatabaseAdminSettings, service: str
) -> None:
    # Given the role of a service
    url, role = service_url(installation, service), role_name(service)

    # When every operation is tried on every table
    can = {
        (verb, table)
        for table, column in tables(installation, service)
        for verb, statement in (ROWS | DEFINITIONS).items()
        if not _REFUSED.match(refusal(url, statement.format(table=table, column=column, role=role)))
    }

    # Then only rows can be changed
    expected = {(verb, t) for verb in ROWS for t, _ in tables(installation, service)}
    expected -= {
        (verb, versions)
        for verb in ("insert", "update", "delete")
        for versions in ("alembic_version", "eventbus_version")
    }
    expected -= {(verb, "audit_log") for verb in ("update", "delete")}
    assert can == expected


@pytest.mark.parametrize("service", NAMES)
def test_a_service_role_can_only_read_views(
    installation: DatabaseAdminSettings, service: str
) -> None:
    url = service_url(installation, service)

    for view, column in tables(installation, service, "VIEW"):
        # PostgreSQL rejects every change of a view of several tables, so the rights are compared.
        assert rights(installation, service, view, role_name(service)) == {"SELECT"}
        assert refusal(url, f"SELECT {column} FROM {view}") == ""
        assert _REFUSED.match(refusal(url, f"DROP VIEW {view}"))


@pytest.mark.parametrize("service", NAMES)
def test_a_service_role_has_no_administrative_rights(
    installation: DatabaseAdminSettings, service: str
) -> None:
    names = {
        "owner": owner_name(service),
        "role": role_name(service),
        "database": installation.database_name(service),
    }

    for statement in ADMINISTRATION:
        # When run outside of a transaction: PostgreSQL creates no database in one
        error = refusal(
            service_url(installation, service), statement.format(**names), autocommit=True
        )

        # Then it is refused
        assert _REFUSED.match(error), (statement, error)


def test_a_role_can_connect_only_to_its_own_database(installation: DatabaseAdminSettings) -> None:
    # When every role tries every database
    refusals = {
        (role, database): refusal(
            service_url(installation, role).set(database=installation.database_name(database)),
            "SELECT count(*) FROM alembic_version",
        )
        for role in NAMES
        for database in NAMES
    }

    # Then each succeeds on its own
    assert {pair for pair, error in refusals.items() if not error} == {(n, n) for n in NAMES}
    for (role, database), error in refusals.items():
        assert role == database or "permission denied for database" in error


@pytest.mark.parametrize("service", NAMES)
def test_an_owner_cannot_log_in(installation: DatabaseAdminSettings, service: str) -> None:
    # Given a password that would be right for any role without one
    url = service_url(installation, service).set(username=owner_name(service))

    error = refusal(url, "SELECT 1")

    assert "authentication failed" in error or "not permitted to log in" in error


def test_a_new_table_has_the_default_privileges(installation: DatabaseAdminSettings) -> None:
    # Given a table that a migration created after the last `apply`
    owner = owner_name("inventory")
    url = installation.admin_url_of(installation.database_name("inventory"))
    with connected(url, autocommit=True) as connection:
        connection.exec_driver_sql(f"SET ROLE {owner}; CREATE TABLE later (id serial, n int)")

        # Then the service can change its rows only
        service = service_url(installation, "inventory")
        assert refusal(service, "INSERT INTO later (n) VALUES (1)") == ""
        assert "permission denied" in refusal(service, "TRUNCATE later")
        connection.exec_driver_sql("DROP TABLE later")


def test_the_console_can_read_only_the_listed_tables(
    installation: DatabaseAdminSettings,
) -> None:
    # Given the role of the console
    password = SecretStr(installation.database_password(READER))

    class Console(DatabaseSettings):
        def login(self, _service: str) -> tuple[str, SecretStr]:
            return READER, password

    console = load_operator(Console)
    for service in NAMES:
        relations = [*tables(installation, service), *tables(installation, service, "VIEW")]

        # When it reads every table and view
        readable = {
            table
            for table, _ in relations
            if not refusal(service_url(console, service), f"SELECT FROM {table}")
        }

        # Then only the listed ones are readable
        assert readable == {*READABLE.get(service, ())}
        for table, _ in relations:
            allowed = CHANGEABLE.get(table, {"SELECT"})
            assert rights(installation, service, table, READER) <= allowed


def rights(settings: DatabaseAdminSettings, service: str, table: str, role: str) -> set[str]:
    """Return a role's rights on a table or a view."""
    query = text("SELECT has_table_privilege(:role, :table, :right)")
    with connected(settings.admin_url_of(settings.database_name(service))) as connection:
        return {
            right
            for right in RIGHTS
            if connection.scalar(query, {"role": role, "table": table, "right": right})
        }
