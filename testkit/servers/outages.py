"""Outages of one test's database on a server that other tests use at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, pool, text

from testkit.servers.databases import TestDatabase


@contextmanager
def read_only(database: TestDatabase) -> Iterator[None]:
    """Make a database read-only during the block, as on a standby or with a full disk."""
    name = database.url.database
    with _altered(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on"):
        yield


@contextmanager
def refusing(database: TestDatabase) -> Iterator[None]:
    """Close and refuse all connections to a database, like a server that is down."""
    with _altered(database, f"ALTER DATABASE {database.url.database} ALLOW_CONNECTIONS false"):
        yield


@contextmanager
def exhausted(database: TestDatabase) -> Iterator[None]:
    """Close every connection to a database, and reject new connections as exceeding its limit."""
    with _altered(database, f"ALTER DATABASE {database.url.database} CONNECTION LIMIT 0"):
        yield


@contextmanager
def _altered(database: TestDatabase, statement: str) -> Iterator[None]:
    name = database.url.database
    _run(database, statement, _END_OTHERS)
    try:
        yield
    finally:
        _run(
            database,
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS true CONNECTION LIMIT -1",
            f"ALTER DATABASE {name} RESET default_transaction_read_only",
            _END_OTHERS,
        )


_END_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"


def _run(database: TestDatabase, *statements: str) -> None:
    engine = create_engine(
        database.url.set(database="postgres"),
        poolclass=pool.NullPool,
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(
                text(statement),
                {"name": database.url.database} if ":name" in statement else {},
            )
