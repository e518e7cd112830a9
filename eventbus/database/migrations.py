"""Alembic migrations, run from code. Each service has its migrations in `<package>/migrations`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, MetaData, Table, create_engine, pool, text

from eventbus.database import db

#: Key of the advisory lock that one process at a time holds to migrate a database.
_LOCK = 5_720_410_883

#: Seconds to wait for another process that migrates the same database.
_WAIT = 300

#: Seconds that a migration waits for a lock on a table. While an ALTER TABLE waits, every later
#: query waits behind it. The migration therefore fails and is run again, so the service continues.
_LOCK_TIMEOUT = 5

#: Seconds to wait for the database to accept a connection.
_CONNECT_TIMEOUT = 5


def upgrade(package: str, url: str | URL, *, role: str | None = None) -> list[str]:
    """Upgrade the database to the newest revision of a service's package.

    `role` owns the objects created, and the user of `url` must be a member of it; None is that user
    itself. Return the revisions applied, oldest first; an empty list if the database was up to
    date. Concurrent calls are safe: one process migrates, and the others wait, then return an empty
    list. Raise SQLAlchemy's errors, or `TimeoutError`; each revision is applied completely or not
    at all.
    """
    with _migrating(package, url, role) as (config, connection):
        before = _revision(connection)
        command.upgrade(config, "head")
        return _between(config, before, _revision(connection))


def pending(package: str, url: str | URL) -> list[str]:
    """Return the revisions that `upgrade` would apply, oldest first, without applying them."""
    with _connect(url) as connection:
        config = _config(package)
        head = ScriptDirectory.from_config(config).get_current_head()
        return _between(config, _revision(connection), head)


def check(package: str, url: str | URL) -> list[Any]:
    """Return the differences between a migrated database and the models of its package.

    They are Alembic's autogenerate directives. The list is empty if models and migrations agree.
    """
    differences: list[Any] = []
    config = _config(package)
    script = ScriptDirectory.from_config(config)

    def compare(_revision: object, migration: MigrationContext) -> list[Any]:
        metadata = migration.opts["target_metadata"]
        differences.extend(compare_metadata(migration, metadata))
        return []

    with (
        _connect(url) as connection,
        EnvironmentContext(config, script, fn=compare, dont_mutate=True),
    ):
        config.attributes["connection"] = connection
        script.run_env()
    return differences


def run(*metadata: MetaData, common_tables: Sequence[Table] = ()) -> None:
    """Run the migrations that Alembic has selected: the whole of a service's `env.py`.

    `metadata` holds the service's tables, `common_tables` the tables of the library that it uses.
    """
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=_merged(metadata, common_tables),
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _merged(metadata: Sequence[MetaData], common_tables: Sequence[Table]) -> MetaData:
    merged = MetaData(naming_convention=db.NAMING)
    for table in [*common_tables, *(t for m in metadata for t in m.sorted_tables)]:
        table.to_metadata(merged)
    return merged


def _config(package: str) -> Config:
    config = Config()
    # The path may contain a `%`, which the config would interpolate.
    folder = str(_folder(package)).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.set_main_option("path_separator", "newline")
    return config


def _folder(package: str) -> Path:
    return Path(str(files(package))) / "migrations"


@contextmanager
def _connect(url: str | URL, role: str | None = None) -> Iterator[Connection]:
    options = f"-c lock_timeout={_LOCK_TIMEOUT}s" + (f" -c role={role}" if role else "")
    engine = create_engine(
        url,
        poolclass=pool.NullPool,
        hide_parameters=True,
        connect_args={"connect_timeout": _CONNECT_TIMEOUT, "options": options, **db.LIVENESS},
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _migrating(
    package: str, url: str | URL, role: str | None
) -> Iterator[tuple[Config, Connection]]:
    # The lock has its own session, because the migrating session's commits must not release it.
    with _connect(url) as guard, _connect(url, role) as connection:
        _lock(guard.execution_options(isolation_level="AUTOCOMMIT"))
        config = _config(package)
        config.attributes["connection"] = connection
        yield config, connection


def _lock(guard: Connection) -> None:
    # Poll, because a waiting statement would hold a snapshot, for which a CREATE INDEX CONCURRENTLY
    # of the other process waits. Closing the connection releases the lock.
    deadline = time.monotonic() + _WAIT
    while not guard.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process has been migrating for {_WAIT} seconds")
        time.sleep(0.1)


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()
    return revision


def _between(config: Config, before: str | None, after: str | None) -> list[str]:
    if before == after or after is None:
        return []
    script = ScriptDirectory.from_config(config)
    newest_first = script.iterate_revisions(after, before or "base")
    return [revision.revision for revision in newest_first][::-1]
