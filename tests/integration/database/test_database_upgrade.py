"""An installation whose services own their tables is migrated to owner roles while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import URL, Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from common.kombu_topology import DATABASES, INVENTORY
from console.orderctl import main
from console.settings import DatabaseAdminSettings, load_operator, owner_name, role_name
from eventbus.database import migrations
from eventbus.topology.service import Service
from testkit.eventually import eventually
from testkit.servers.databases import Databases, service_url
from testkit.servers.infrastructure import Infrastructure

_OWNERS = text(
    "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
    " WHERE relnamespace = 'public'::regnamespace"
)
_DATABASE_OWNER = text(
    "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
)


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection


def run(*command: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["database", *command])
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def released(servers: Infrastructure, databases: Databases) -> Iterator[DatabaseAdminSettings]:
    """Databases of a release in which services owned their tables, for copies.

    The database templates have created the roles.
    """
    suffix = f"_{uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORDERS_ENV_FILE", str(servers.operator_environment))
        patch.setenv("DATABASE_SUFFIX", suffix)
        settings = load_operator(DatabaseAdminSettings)
    for service in DATABASES:
        _create(settings, service, "template0 LC_COLLATE 'C' LC_CTYPE 'C'")
        migrations.upgrade(service, service_url(settings, service.name))
    yield settings
    databases.drop_all(suffix)


def copy(released: DatabaseAdminSettings, settings: DatabaseAdminSettings) -> None:
    """Create the databases of an installation of that release."""
    for service in DATABASES:
        _create(settings, service, released.database_name(service.name))


def _create(settings: DatabaseAdminSettings, service: Service, template: str) -> None:
    name, role = settings.database_name(service.name), role_name(service.name)
    with connected(settings.admin_url_of("postgres")) as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {role} TEMPLATE {template}")
        connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")


@pytest.fixture
def old(
    operator_env: dict[str, str],
    released: DatabaseAdminSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> DatabaseAdminSettings:
    """An old installation."""
    for name, value in operator_env.items():
        monkeypatch.setenv(name, value)
    settings = load_operator(DatabaseAdminSettings)
    copy(released, settings)
    return settings


def owners(settings: DatabaseAdminSettings, service: str) -> tuple[set[str], str]:
    with connected(settings.admin_url_of(settings.database_name(service))) as connection:
        return set(connection.scalars(_OWNERS)), connection.scalar(_DATABASE_OWNER)


def test_an_old_installation_is_migrated_once(old: DatabaseAdminSettings) -> None:
    # Given databases whose tables belong to the services
    assert owners(old, "order") == ({"order_service"}, "order_service")
    status, planned = run("plan")
    assert (status, "objects of role order_service" in planned) == (2, True)
    assert owners(old, "order") == ({"order_service"}, "order_service")

    # When `orderctl database apply` runs
    status, applied = run("apply")

    # Then the tables belong to owner roles
    assert (status, planned.splitlines()[0] in applied) == (0, True)
    for service in DATABASES:
        owner = owner_name(service.name)
        assert owners(old, service.name) == ({owner}, owner)
        with connected(service_url(old, service.name)) as connection:
            connection.execute(text("SELECT FROM alembic_version"))
            with pytest.raises(DBAPIError, match="permission denied"):
                connection.exec_driver_sql("CREATE TABLE mine (id int)")
    assert run("apply") == (0, "databases: nothing to change\n")
    assert run("plan") == (0, "databases: no differences\n")


def test_a_process_continues_while_its_tables_change_owner(old: DatabaseAdminSettings) -> None:
    # Given a process that writes and reconnects repeatedly
    stop, written, problems = Event(), list[str](), list[str]()

    def write() -> None:
        while not stop.is_set():
            try:
                with connected(service_url(old, INVENTORY.name)) as connection:
                    sku = uuid4().hex
                    statement = text("INSERT INTO stock (sku, on_hand, reserved) VALUES (:s, 1, 0)")
                    connection.execute(statement, {"s": sku})
                    written.append(sku)
            except DBAPIError as error:
                problems.append(str(error))

    thread = Thread(target=write)
    thread.start()
    try:
        eventually(lambda: _assert(len(written) > 3))

        # When the owners change
        status, output = run("apply")
        at_the_end = len(written)
        eventually(lambda: _assert(len(written) > at_the_end))
    finally:
        stop.set()
        thread.join()

    # Then the process had no errors
    assert (status, problems) == (0, []), output


def test_another_installation_on_the_server_keeps_its_databases(
    old: DatabaseAdminSettings,
    released: DatabaseAdminSettings,
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a second installation of the old release, which shares the roles
    suffix = f"_{uuid4().hex[:8]}"
    monkeypatch.setenv("DATABASE_SUFFIX", suffix)
    other = load_operator(DatabaseAdminSettings)
    try:
        copy(released, other)
        monkeypatch.setenv("DATABASE_SUFFIX", old.database_suffix)

        # When the first one is migrated
        assert run("apply")[0] == 0

        # Then the second one still runs, and is migrated later
        assert owners(other, "order") == ({"order_service"}, "order_service")
        with connected(service_url(other, "order")) as connection:
            connection.execute(text("SELECT FROM orders"))
        monkeypatch.setenv("DATABASE_SUFFIX", suffix)
        assert run("apply")[0] == 0
        assert owners(other, "order") == ({"order_owner"}, "order_owner")
    finally:
        databases.drop_all(suffix)


def test_excess_rights_are_revoked(old: DatabaseAdminSettings) -> None:
    # Given an installation in which a person has granted more
    run("apply")
    with connected(old.admin_url_of(old.database_name("order"))) as connection:
        connection.exec_driver_sql("GRANT ALL ON orders, alembic_version TO order_service")
        connection.exec_driver_sql("ALTER ROLE order_service CREATEDB")

    # When the rights are applied
    status, output = run("apply")

    # Then the additional ones are revoked
    name = old.database_name("order")
    assert (status, output.splitlines()) == (
        0,
        [
            "role order_service: administrative attributes removed",
            f"database {name}: SELECT on alembic_version granted to role order_service",
            f"database {name}: DELETE, INSERT, SELECT, UPDATE on orders granted to role"
            " order_service",
        ],
    )


def _assert(condition: bool) -> None:
    assert condition
