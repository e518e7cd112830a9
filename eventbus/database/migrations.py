"""Alembic migrations, run from code.

The revisions of a service's tables are in `<package>/migrations`. The revisions of the library's
tables, in `eventbus/migrations`, are one branch for each table; a database has the tables that its
service's declaration requires. Each database records the two kinds of revisions in separate tables.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from eventbus.topology.service import Service

#: The tables in which a database records the revisions of its service and of the library.
SERVICE_VERSION, LIBRARY_VERSION = "alembic_version", "eventbus_version"

#: Key of the advisory lock that a process holds while it migrates a database.
_LOCK = 5_720_410_883

#: Seconds to wait for another process that migrates the same database.
_WAIT = 300

#: Seconds that a migration waits for a lock on a table. While an ALTER TABLE waits, every later
#: query waits behind it. The migration therefore fails after this time and is run again, so that
#: the service can continue.
_LOCK_TIMEOUT = 5

#: Seconds to wait for the database to accept a connection.
_CONNECT_TIMEOUT = 5


@dataclass(frozen=True, slots=True)
class _History:
    """The revisions of one package, and the table in which a database records applied revisions."""

    package: str
    version_table: str
    #: The revisions to upgrade to, in this order.
    targets: tuple[str, ...]

    @property
    def folder(self) -> Path:
        return Path(str(files(self.package))) / "migrations"


def upgrade(service: Service, url: str | URL, *, role: str | None = None) -> list[str]:
    """Upgrade a service's database: first the service's tables, then the library's tables.

    `role` owns the objects that are created, and the user of `url` must be a member of it; None
    means that user. Returns the revisions that were applied, oldest first, or an empty list if the
    database was up to date. Concurrent calls are safe: one process migrates, and all other
    processes wait and return an empty list. Each revision is applied completely or not at all.
    Raises SQLAlchemy's errors, or `TimeoutError`.
    """
    applied = []
    with _migrating(url, role) as connection:
        for history in _histories(service):
            for target, revisions in _missing(history, connection):
                if revisions:
                    command.upgrade(_config(history, connection), target)
                    applied += revisions
    return applied


def pending(service: Service, url: str | URL) -> list[str]:
    """Return the revisions that `upgrade` would apply, oldest first, without applying them."""
    with _connect(url) as connection:
        return [
            revision
            for history in _histories(service)
            for _, revisions in _missing(history, connection)
            for revision in revisions
        ]


def check(service: Service, url: str | URL) -> list[Any]:
    """Return the differences between a service's migrated database and its models.

    They are Alembic's autogenerate directives. The list is empty if models and migrations agree.
    """
    with _connect(url) as connection:
        own, library = (_metadata(history, connection) for history in _histories(service))
        used = [table for table in library.sorted_tables if table.name in service.library_tables]
        migration = MigrationContext.configure(connection, opts={"include_name": _is_compared})
        return list(compare_metadata(migration, _merged([*used, *own.sorted_tables])))


def run(*metadata: MetaData) -> None:
    """Run the migrations that Alembic has selected. A package's `env.py` contains only this call.

    `metadata` contains the tables of the package.
    """
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        version_table=attributes["version_table"],
        target_metadata=_merged([table for each in metadata for table in each.sorted_tables]),
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _histories(service: Service) -> tuple[_History, _History]:
    # The service's revisions come first, because old revisions created some of the library's
    # tables.
    return (
        _History(service.package, SERVICE_VERSION, ("head",)),
        _History("eventbus", LIBRARY_VERSION, tuple(f"{t}@head" for t in service.library_tables)),
    )


def _missing(history: _History, connection: Connection) -> Iterator[tuple[str, list[str]]]:
    """Yield each target with the revisions up to it that the database lacks, oldest first.

    The database is read again for each target, so the caller may upgrade to one target before it
    asks for the next.
    """
    script = ScriptDirectory.from_config(_config(history, connection))
    for target in history.targets:
        opts = {"version_table": history.version_table}
        heads = MigrationContext.configure(connection, opts=opts).get_current_heads()
        connection.rollback()
        newest_first = script.iterate_revisions(target, heads, implicit_base=True)
        yield target, [revision.revision for revision in newest_first][::-1]


def _metadata(history: _History, connection: Connection) -> MetaData:
    """Return the tables that a package's `env.py` names."""
    named: list[MetaData] = []
    config = _config(history, connection)

    def note(_revision: object, migration: MigrationContext) -> list[Any]:
        named.append(migration.opts["target_metadata"])
        return []

    script = ScriptDirectory.from_config(config)
    with EnvironmentContext(config, script, fn=note, dont_mutate=True):
        script.run_env()
    return named[0]


def _is_compared(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name not in (SERVICE_VERSION, LIBRARY_VERSION)


def _merged(tables: Sequence[Table]) -> MetaData:
    merged = MetaData(naming_convention=db.NAMING)
    for table in tables:
        table.to_metadata(merged)
    return merged


def _config(history: _History, connection: Connection) -> Config:
    config = Config()
    # The path may contain a `%`, which the config would interpolate.
    config.set_main_option("script_location", str(history.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes |= {"connection": connection, "version_table": history.version_table}
    return config


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
def _migrating(url: str | URL, role: str | None) -> Iterator[Connection]:
    # The lock has its own session, because the migrating session's commits must not release it.
    with _connect(url) as guard, _connect(url, role) as connection:
        _lock(guard.execution_options(isolation_level="AUTOCOMMIT"))
        yield connection


def _lock(guard: Connection) -> None:
    # The lock is polled, because a waiting statement would hold a snapshot, and a CREATE INDEX
    # CONCURRENTLY of the other process would wait for that snapshot. Closing the connection
    # releases the lock.
    deadline = time.monotonic() + _WAIT
    while not guard.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK}):
        if time.monotonic() > deadline:
            raise TimeoutError(f"another process has been migrating for {_WAIT} seconds")
        time.sleep(0.1)
