"""Database engines with their addresses and timeouts, and transactions."""

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

import eventbus.database.error_details  # noqa: F401 - registers the descriptions of its errors
from eventbus import tls
from eventbus.database import outages
from eventbus.database.connection import Connection
from eventbus.database.pool import EnginePool
from eventbus.database.statement_limit import StatementLimit
from eventbus.settings.addresses import addresses
from eventbus.settings.database import DatabaseSettings

Sessions = sessionmaker[Session]

#: The engines of this process, for its metrics.
engines: WeakSet[Engine] = WeakSet()

#: The naming convention of constraints, on which migrations can rely.
NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

#: Parameters of sessions in which every statement reads by a key. PostgreSQL caches plans,
#: including those of foreign key checks: a plan made while a table was empty would continue to scan
#: the whole table once it is full.
BY_KEY: Mapping[str, object] = MappingProxyType({"enable_seqscan": "off", "jit": "off"})

#: Seconds to connect to one server. This does not include name resolution, which libpq does not
#: limit.
CONNECT_TIMEOUT = 5

#: Seconds to wait for a response beyond `statement_timeout`, because of the network or a busy
#: server.
_LATENESS = 3.0

#: Seconds to connect for a scrape, and for the response to each of its statements. Prometheus waits
#: five seconds. If the page arrives later, Prometheus drops all of it, including the metric that
#: reports that the database is down.
_SCRAPE_CONNECT_TIMEOUT = 2
_SCRAPE_LIMIT = 2.0

#: Parameters of each connection. A server that has disappeared is detected within 45 seconds while
#: the process waits or sleeps (the idle time and three probes), and within 20 seconds while it
#: sends.
LIVENESS: Mapping[str, int] = MappingProxyType(
    {
        "keepalives_idle": 30,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
)

#: The metadata of the library's tables in a service's database, such as `outbox` and `inbox`.
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
    """Return the address of one or several servers, of which each connection uses the primary."""
    servers = addresses(hosts, port)
    options: dict[str, tuple[str, ...] | str] = {**tls.database_options(ca_file)}
    if len(servers) == 1:
        ((host, port),) = servers
        return URL.create("postgresql+psycopg2", host=host, port=port, query=options)
    # libpq tries the hosts in turn and skips read-only hosts.
    options["host"] = ",".join(host for host, _ in servers)
    options["port"] = ",".join(str(port) for _, port in servers)
    options["target_session_attrs"] = "read-write"
    return URL.create("postgresql+psycopg2", query=options)


def engine_options(
    settings: DatabaseSettings,
    *,
    pool_size: int,
    session: Mapping[str, object] = MappingProxyType({}),
    is_limited: bool = False,
) -> dict[str, object]:
    """Return the options of an engine in which every wait has a timeout.

    `session` holds additional PostgreSQL parameters for the engine's sessions. With `is_limited`,
    the process also ends statements that the server does not end
    (`eventbus.database.statement_limit`): this is for processes without a watchdog, whose threads
    such statements would block.
    """
    limit = StatementLimit(statement_limit(settings))
    seconds = {
        "statement_timeout": settings.database_statement_timeout,
        "lock_timeout": settings.database_lock_timeout,
        # A process that hangs inside a transaction must not hold its locks indefinitely.
        "idle_in_transaction_session_timeout": 60.0,
    }
    parameters = {name: int(limit * 1000) for name, limit in seconds.items()} | dict(session)
    return {
        "pool_size": pool_size,
        "poolclass": EnginePool,
        "max_overflow": 0,
        "pool_timeout": settings.database_statement_timeout,
        # Errors do not show parameters, which contain customers' data: errors reach logs and parked
        # messages.
        "hide_parameters": True,
        "connect_args": {
            "connection_factory": limit.connect if is_limited else Connection,
            "connect_timeout": CONNECT_TIMEOUT,
            "options": " ".join(f"-c {k}={v}" for k, v in parameters.items()),
            **LIVENESS,
        },
    }


def statement_limit(settings: DatabaseSettings) -> float:
    """Return the seconds within which a working server responds to any statement."""
    return settings.database_statement_timeout + _LATENESS


def response_limit(settings: DatabaseSettings) -> float:
    """Return the seconds in which a new connection receives the response to its first statement."""
    servers = addresses(settings.database_host, settings.database_port)
    return CONNECT_TIMEOUT * len(servers) + statement_limit(settings)


@listens_for(Engine, "handle_error")
def _discard_unusable_connections(context: ExceptionContext) -> None:
    """Discard the pool's connections when the server is read-only or has altered a table.

    After a failover, a connection to the demoted primary stays open and would fail indefinitely,
    and so would a connection whose prepared statement returns a column that now has another type.
    The next connection is new: it selects the primary, and prepares its statements again.
    """
    if outages.is_unusable(context.original_exception):
        context.is_disconnect = True


def takes_writes(session: Session) -> bool:
    """Return whether the database accepts writes; if it does not, discard the connections.

    This runs a single query, which does not read a table.
    """
    state = text("SELECT current_setting('transaction_read_only') = 'off'")
    writable = bool(session.scalar(state))
    if not writable:
        session.get_bind().engine.dispose()
    return writable


@listens_for(Pool, "checkout")
def _discard_dead_connections(dbapi_connection: Any, *_: Any) -> None:
    """Make the pool replace a connection that the database has closed.

    A server sends data to an idle client only when it closes the connection. Polling the socket
    costs no round trip, unlike a ping at each checkout.
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
    is_limited: bool = False,
) -> Engine:
    """Return an engine. It connects at its first use, so never before a fork.

    `session` holds PostgreSQL parameters for its sessions. `is_limited` has the same meaning as in
    `engine_options`.
    """
    options = engine_options(settings, pool_size=pool_size, session=session, is_limited=is_limited)
    new_engine = create_engine(url(settings), **options)
    engines.add(new_engine)
    return new_engine


def scrape_engine(settings: DatabaseSettings) -> Engine:
    """Return an engine for metrics, with which a scrape ends in time whatever the database does.

    No watchdog ends a scrape. Slow statements are cancelled, and a statement without a response
    ends with its connection.
    """
    timeout = min(settings.database_statement_timeout, _SCRAPE_LIMIT / 2)
    limited = settings.model_copy(update={"database_statement_timeout": timeout})
    options: dict[str, Any] = engine_options(limited, pool_size=1)
    options["connect_args"] |= {
        "connection_factory": StatementLimit(_SCRAPE_LIMIT).connect,
        "connect_timeout": _SCRAPE_CONNECT_TIMEOUT,
    }
    new_engine = create_engine(url(limited), **options)
    engines.add(new_engine)
    return new_engine


def sessions(engine: Engine) -> Sessions:
    """Return the session factory of an engine."""
    return sessionmaker(engine, expire_on_commit=False)


def engine_of(sessions: Sessions) -> Engine:
    """Return the engine of a session factory, for work on a separate connection."""
    bound: Engine = sessions.kw["bind"]
    return bound


@contextmanager
def transaction(sessions: Sessions) -> Iterator[Session]:
    """Run the block in one transaction: commit at its end, roll back on any exception."""
    with sessions() as session, session.begin():
        yield session
