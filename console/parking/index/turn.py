"""The turns of the index and of commands at a parking lot.

A reading holds all messages, and a command would not find them. The index therefore reads only
while no command has its turn, and ends its reading when a command waits.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from common.kombu_topology import CONSOLE
from console.databases.service_database import sessions
from console.errors import ActionError
from console.settings import DatabaseServer
from eventbus.database.db import Sessions, engine_of

#: The first key of the advisory locks; the second is the hash of the service's name.
_LOCK = 1_331_000_051

#: Lock timeouts for which a command waits. A reading returns its messages within seconds.
_WAITS = 6

_TRY = text("SELECT pg_try_advisory_lock(:key, hashtext(:service))")

#: Commands exclude the index, and not one another.
_WAIT = text("SELECT pg_advisory_lock_shared(:key, hashtext(:service))")

#: The keys are as in `console.parking.redrive.lease`.
_AWAITED = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
    " AND NOT granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = :key AND objid::bigint = hashtext(:service)::bigint & 4294967295)"
)


@contextmanager
def of_index(settings: DatabaseServer, service: str) -> Iterator[Sessions]:
    """Yield sessions on the console's database that hold the turn of the index.

    Raises `ActionError` if a command, or the index of another process, has its turn.
    """
    with sessions(settings, CONSOLE) as own, engine_of(own).connect() as connection:
        held = connection.scalar(_TRY, _keys(service))
        # The lock belongs to the session, not to the transaction.
        connection.commit()
        if not held:
            raise ActionError(f"a command uses the parking lot of {service}")
        yield sessionmaker(connection, expire_on_commit=False)


def is_awaited(session: Session, service: str) -> bool:
    """Return whether a command waits for its turn."""
    return bool(session.scalar(_AWAITED, _keys(service)))


def take(connection: Connection, service: str) -> None:
    """Take the turn of a command, until the connection ends; a reading of the index ends first.

    Raises `ActionError` if the reading does not end within `_WAITS` lock timeouts.
    """
    for _ in range(_WAITS):
        try:
            connection.execute(_WAIT, _keys(service))
        except OperationalError as error:
            connection.rollback()
            if not isinstance(error.orig, LockNotAvailable):
                raise
        else:
            connection.commit()
            return
    raise ActionError(f"the parking lot of {service} is being read: try again")


@contextmanager
def of_command(settings: DatabaseServer, service: str) -> Iterator[Sessions | None]:
    """Run the block in the turn of a command; yield sessions on the console's database.

    Without that database, the index reads nothing, so the block runs without a turn: yields None.
    """
    with ExitStack() as stack:
        held = None
        with suppress(DBAPIError):
            own = stack.enter_context(sessions(settings, CONSOLE))
            connection = stack.enter_context(engine_of(own).connect())
            take(connection, service)
            held = sessionmaker(connection, expire_on_commit=False)
        yield held


def _keys(service: str) -> dict[str, object]:
    return {"key": _LOCK, "service": service}
