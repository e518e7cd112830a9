"""One engine per process and one way to run a transaction."""

import select
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

from sqlalchemy import URL, Engine, ExceptionContext, MetaData, create_engine, text
from sqlalchemy.event import listens_for
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import Pool

from eventbus import tls
from eventbus.database import outages
from eventbus.database.connection import Connection
from eventbus.settings.addresses import addresses
from eventbus.settings.database import DatabaseSettings

Sessions = sessionmaker[Session]

#: The engines of this process, for its metrics.
engines: WeakSet[Engine] = WeakSet()

#: Constraint names that migrations can rely on.
NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

#: Parameters of sessions whose every statement reads by a key. PostgreSQL keeps plans, those of its
#: own foreign key checks among them: one that was made while a table was empty would go on to read
#: the whole of it when it is full.
BY_KEY: Mapping[str, object] = MappingProxyType({"enable_seqscan": "off", "jit": "off"})

#: The tables that every service has: `outbox`, `inbox` (and `relay_state`).
metadata = MetaData(naming_convention=NAMING)


def url(settings: DatabaseSettings) -> URL:
    """Return the address of the process's database."""
    return server_url(
        settings.database_host, settings.database_port, settings.database_ca_file
    ).set(
        username=settings.database_user,
        password=settings.database_password.get_secret_value(),
        database=settings.database_name,
    )


def server_url(hosts: str, port: int, ca_file: Path) -> URL:
    """Return the address of a server, or of several of which each connection finds the primary."""
    servers = addresses(hosts, port)
    options: dict[str, tuple[str, ...] | str] = {**tls.database_options(ca_file)}
    if len(servers) == 1:
        ((host, port),) = servers
        return URL.create("postgresql+psycopg2", host=host, port=port, query=options)
    # libpq tries them in turn, and goes on when one takes no writes.
    options["host"] = ",".join(host for host, _ in servers)
    options["port"] = ",".join(str(port) for _, port in servers)
    options["target_session_attrs"] = "read-write"
    return URL.create("postgresql+psycopg2", query=options)


def engine_options(
    settings: DatabaseSettings,
    *,
    pool_size: int,
    session: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, object]:
    """Return the options of an engine whose every wait has a limit.

    `session` are PostgreSQL's parameters for its sessions, beside those limits.
    """
    seconds = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
        # A process that hangs inside a transaction must not hold its locks for ever.
        "idle_in_transaction_session_timeout": 60.0,
    }
    parameters = {name: int(limit * 1000) for name, limit in seconds.items()} | dict(session)
    return {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.database_statement_timeout,
        # Parameters hold customers' data, and errors end in logs and parked messages.
        "hide_parameters": True,
        "connect_args": {
            "connection_factory": Connection,
            "connect_timeout": 5,
            "options": " ".join(f"-c {k}={v}" for k, v in parameters.items()),
            "keepalives_idle": 30,
            "tcp_user_timeout": 20_000,
        },
    }


@listens_for(Engine, "handle_error")
def _leave_servers_without_writes(context: ExceptionContext) -> None:
    """Throw away a pool's connections when the server takes no writes.

    After a failover a connection to the demoted primary lives on and would fail for ever. The next
    one is a new one, which finds the primary.
    """
    if outages.takes_no_writes(context.original_exception):
        context.is_disconnect = True


def takes_writes(session: Session) -> bool:
    """Return whether the database takes writes; without, its connections are thrown away.

    It asks one question, which reads no table.
    """
    state = text("SELECT current_setting('transaction_read_only') = 'off'")
    writable = bool(session.scalar(state))
    if not writable:
        session.get_bind().engine.dispose()
    return writable


@listens_for(Pool, "checkout")
def _refuse_dead_connections(dbapi_connection: Any, *_: Any) -> None:
    """Let the pool replace a connection that the database has closed, instead of handing it out.

    A server that speaks to an idle client says goodbye. To look is free; a ping, each time, is not.
    """
    poll = select.poll()
    poll.register(dbapi_connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("the database has closed the connection")


def engine(
    settings: DatabaseSettings,
    *,
    pool_size: int = 1,
    session: Mapping[str, object] = MappingProxyType({}),
) -> Engine:
    """Return an engine; it connects at its first use, never before a fork.

    `session` are PostgreSQL's parameters for its sessions.
    """
    options = engine_options(settings, pool_size=pool_size, session=session)
    created = create_engine(url(settings), **options)
    engines.add(created)
    return created


def sessions(engine: Engine) -> Sessions:
    """Return the session factory of an engine."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def transaction(sessions: Sessions) -> Iterator[Session]:
    """Run the block in one transaction: committed at its end, rolled back by any exception."""
    with sessions() as session, session.begin():
        yield session
