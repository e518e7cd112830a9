"""Outages: the errors that are the fault of the database, not of a request or an event.

An outage is never charged to the event being handled, and a request is answered with 503.
"""

from collections.abc import Iterator
from types import MappingProxyType

import psycopg2
from sqlalchemy import exc

_NO_WRITES = "the database takes no writes"
_UNREACHABLE = "the database cannot be reached"
_SHUTDOWN = "the database is shutting down or starting"
_RESOURCES = "the database is out of resources"
_SYSTEM = "the database's system has failed"
_NO_CONNECTION = "all connections to the database are in use"

#: SQLSTATEs of outages, by their first characters.
_REASONS = MappingProxyType(
    {
        "08": _UNREACHABLE,
        "25006": _NO_WRITES,
        # Disk full, out of memory, too many connections.
        "53": _RESOURCES,
        # Of class 57, "operator intervention": but not 57014, a statement's timeout.
        "57P": _SHUTDOWN,
        # Errors outside of PostgreSQL: I/O, missing files.
        "58": _SYSTEM,
    }
)

#: SQLSTATEs of a statement that lost against other transactions or against the statement timeout;
#: the database serves all other statements meanwhile, and a repetition may succeed.
_CONTENTION = frozenset({"40001", "40P01", "55P03", "57014"})

#: SQLAlchemy's codes of errors that follow the loss of a connection.
_AFTER_A_LOSS = frozenset({"8s2b"})

#: Errors of the driver that mean a lost connection if they have no SQLSTATE: a server that is gone
#: sends none, and libpq drops the SQLSTATE of a connection attempt.
_OF_THE_CONNECTION = (psycopg2.OperationalError, psycopg2.InterfaceError)

#: The limit on a chain of causes, which may be circular.
_DEPTH = 10


def reason(error: BaseException) -> str | None:
    """Return the outage that an error comes from, as a constant text, or None.

    None: the error belongs to the statement, its values or the program, or it is `contention`.
    An error raised `from` an outage counts as that outage.
    """
    return next(filter(None, map(_reason, _causes(error))), None)


def takes_no_writes(error: BaseException) -> bool:
    """Return whether an error comes from a server that takes no writes: a standby, a full disk."""
    return reason(error) == _NO_WRITES


def contention(error: BaseException) -> bool:
    """Return whether an error comes from concurrent transactions or from the statement timeout."""
    return any(_sqlstate(cause) in _CONTENTION for cause in _causes(error))


def _reason(error: BaseException) -> str | None:
    if isinstance(error, exc.TimeoutError):
        return _NO_CONNECTION
    if isinstance(error, exc.DisconnectionError) or getattr(error, "code", "") in _AFTER_A_LOSS:
        return _UNREACHABLE
    if state := _sqlstate(error):
        return next((text for start, text in _REASONS.items() if state.startswith(start)), None)
    return _UNREACHABLE if _is_lost(error) else None


def _is_lost(error: BaseException) -> bool:
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated
    # libpq reports a truncated answer as a plain DatabaseError.
    return isinstance(error, _OF_THE_CONNECTION) or type(error) is psycopg2.DatabaseError


def _sqlstate(error: BaseException) -> str | None:
    # SQLAlchemy's errors wrap the driver's, which knows more than that a connection was lost.
    for each in (error, getattr(error, "orig", None)):
        if state := getattr(each, "pgcode", None):
            return str(state)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if cause is None:
            return
        yield cause
        cause = getattr(cause, "orig", None) or cause.__cause__
