"""The lease that permits one preparation or run at a time to use a service's parking lot.

A run holds the messages that it passes over, which a plan would therefore not find.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from common.kombu_topology import CONSOLE
from console.databases.service_database import sessions
from console.errors import ActionError
from console.parking.index import turn
from console.settings import DatabaseServer
from eventbus.database.db import Sessions, engine_of

#: The first key of the advisory locks; the second is the hash of the service's name.
_LOCK = 1_331_000_050

_ACQUIRE = text("SELECT pg_try_advisory_lock(:key, hashtext(:service))")

#: The view contains the keys as unsigned numbers of 32 bits; `objsubid` is 2 for a lock with two
#: keys.
_HELD = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = :key AND objid::bigint = hashtext(:service)::bigint & 4294967295)"
)


@contextmanager
def lease(settings: DatabaseServer, service: str) -> Iterator[Sessions]:
    """Yield sessions on the console's database that hold the lease of a service.

    All sessions use the connection that holds the lease, so none of them can write without the
    lease. The server releases the lease when the connection ends, even if the process is killed.
    Raises `ActionError` if another process holds it.
    """
    with sessions(settings, CONSOLE) as own, engine_of(own).connect() as connection:
        held = connection.scalar(_ACQUIRE, {"key": _LOCK, "service": service})
        # The lock belongs to the session, not to the transaction.
        connection.commit()
        if not held:
            raise ActionError(
                f"another command plans or redrives messages of {service}: wait until it ends"
            )
        turn.take(connection, service)
        yield sessionmaker(connection, expire_on_commit=False)


def is_held(session: Session, service: str) -> bool:
    """Return whether a process holds the lease of a service."""
    return bool(session.scalar(_HELD, {"key": _LOCK, "service": service}))
