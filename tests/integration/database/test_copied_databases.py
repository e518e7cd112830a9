"""The databases of tests: a copy that a test has opened or altered is never given to another."""

from collections.abc import Callable

import pytest
from sqlalchemy import create_engine, pool, text

from testkit.servers.databases import Databases, TestDatabase


def identity(databases: Databases, database: TestDatabase) -> int:
    """Return the number that PostgreSQL has given a database, without opening the database."""
    engine = create_engine(databases.server, poolclass=pool.NullPool)
    query = text("SELECT oid FROM pg_database WHERE datname = :name")
    with engine.connect() as connection:
        return int(connection.scalar(query, {"name": database.url.database}))


def run(databases: Databases, database: str | None, statement: str) -> None:
    engine = create_engine(databases.server.set(database=database), poolclass=pool.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))


def opened(databases: Databases, database: TestDatabase) -> None:
    run(databases, database.url.database, "SELECT 1")


def configured(databases: Databases, database: TestDatabase) -> None:
    run(databases, "postgres", f"ALTER DATABASE {database.url.database} SET work_mem = '8MB'")


def restricted(databases: Databases, database: TestDatabase) -> None:
    run(databases, "postgres", f"ALTER DATABASE {database.url.database} CONNECTION LIMIT 1")


def test_an_unopened_copy_is_used_again(databases: Databases) -> None:
    # Given a copy that nothing has opened
    with databases.fresh() as create:
        unopened = create("trace")
        number = identity(databases, unopened)

    # When later tests create databases of that service
    with databases.fresh() as create:
        later = [create("trace") for _ in range(3)]

        # Then one of them is this copy, under another name
        assert number in [identity(databases, database) for database in later]
        assert unopened.url not in [database.url for database in later]


@pytest.mark.parametrize("change", [opened, configured, restricted])
def test_a_changed_copy_is_not_used_again(
    databases: Databases, change: Callable[[Databases, TestDatabase], None]
) -> None:
    # Given a copy that a test has opened or altered
    with databases.fresh() as create:
        changed = create("trace")
        number = identity(databases, changed)
        change(databases, changed)

    # When later tests create databases of that service
    with databases.fresh() as create:
        later = [create("trace") for _ in range(3)]

        # Then none of them is this copy
        assert number not in [identity(databases, database) for database in later]


def test_a_copy_with_an_open_session_is_not_used_again(databases: Databases) -> None:
    # Given a session that a test has not closed
    with databases.fresh() as create:
        held = create("trace")
        number = identity(databases, held)
        connection = create_engine(held.url, poolclass=pool.NullPool).connect()

    # When later tests create databases of that service
    with databases.fresh() as create:
        later = [create("trace") for _ in range(3)]

        # Then none of them is this copy
        assert number not in [identity(databases, database) for database in later]
    connection.invalidate()
    connection.close()
