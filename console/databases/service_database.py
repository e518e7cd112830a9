"""A service's database, where `orderctl` has the service's permissions, and the console fewer."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from sqlalchemy import text
from sqlalchemy.orm import Session

from console.settings import DatabaseServer
from eventbus.database import db
from eventbus.settings.database import DatabaseSettings as ServiceDatabase
from eventbus.topology.service import Service

#: The statement that makes a transaction read-only, and makes it use indexes regardless of the
#: planner's statistics.
_READ_ONLY = text(
    "SELECT set_config('transaction_read_only', 'on', true),"
    " set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)"
)


@contextmanager
def transaction(settings: DatabaseServer, service: Service) -> Iterator[Session]:
    """Run the block in one transaction on a service's database."""
    with sessions(settings, service) as database, db.transaction(database) as session:
        yield session


@contextmanager
def sessions(settings: DatabaseServer, service: Service) -> Iterator[db.Sessions]:
    """Yield sessions on a service's database, for a block of several transactions."""
    lasting = pooled(settings, service)
    try:
        yield lasting
    finally:
        db.engine_of(lasting).dispose()


def pooled(settings: DatabaseServer, service: Service, *, pool_size: int = 1) -> db.Sessions:
    """Return sessions on a service's database that keep their connections, at most `pool_size`.

    The first connection is opened by the first transaction.
    """
    role, password = settings.login(service.name)
    engine = db.engine(
        ServiceDatabase(
            database_host=settings.database_host,
            database_port=settings.database_port,
            database_name=settings.database_name(service.name),
            database_user=role,
            database_password=password,
            database_ca_file=settings.database_ca_file,
        ),
        pool_size=pool_size,
        # Statements are limited, because each request of the console occupies a thread.
        is_limited=True,
    )
    return db.sessions(engine)


@contextmanager
def reading(sessions: db.Sessions) -> Iterator[Session]:
    """Run the block in one read-only transaction that reads tables by their indexes."""
    with db.transaction(sessions) as session:
        session.execute(_READ_ONLY)
        yield session


class Databases:
    """The databases of all services, with connections that are kept, for frequent reading."""

    def __init__(self, settings: DatabaseServer, *, pool_size: int) -> None:
        """Connect later, with at most `pool_size` connections to each database."""
        self._settings, self._pool_size = settings, pool_size
        self._sessions: dict[str, db.Sessions] = {}
        self._lock = Lock()

    @contextmanager
    def transaction(self, service: Service) -> Iterator[Session]:
        """Run the block in one read-only transaction that reads tables by their indexes."""
        with self._lock:
            if service.name not in self._sessions:
                size = self._pool_size
                self._sessions[service.name] = pooled(self._settings, service, pool_size=size)
        with reading(self._sessions[service.name]) as session:
            yield session

    def close(self) -> None:
        """Close idle connections. A later transaction opens a new connection."""
        with self._lock:
            for kept in self._sessions.values():
                db.engine_of(kept).dispose()
