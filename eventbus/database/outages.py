"""Outages: errors caused by the database, not by a request or an event.

During an outage, no attempt to handle an event is counted, and the response to a request is 503.
"""

from collections.abc import Iterator
from types import MappingProxyType

import psycopg2
from sqlalchemy import exc

from eventbus.errors import ExpectedError

_NO_WRITES = "the database takes no writes"
_UNREACHABLE = "the database cannot be reached"
_SHUTDOWN = "the database is shutting down or starting"
_RESOURCES = "the database is out of resources"
_SYSTEM = "the database's system has failed"
_NO_CONNECTION = "all connections to the database are in use"
_NO_RESPONSE = "the database does not respond"
_OUTDATED = "a connection's prepared statements are outdated"

#: Descriptions of outages by the first characters of their SQLSTATE.
_REASONS = MappingProxyType(
    {
        "08": _UNREACHABLE,
        "25006": _NO_WRITES,
        # The server has ended a session whose process stalled inside a transaction.
        "25P03": _UNREACHABLE,
        "25P04": _UNREACHABLE,
        # A prepared statement is missing, or exists unexpectedly.
        "26000": _OUTDATED,
        "42P05": _OUTDATED,
        # Disk full, out of memory, too many connections.
        "53": _RESOURCES,
        # Class 57 is "operator intervention", except 57014, which is a statement timeout.
        "57P": _SHUTDOWN,
        # Class 58 contains errors external to PostgreSQL, such as I/O errors and missing files.
        "58": _SYSTEM,
    }
)

#: SQLSTATEs of serialization failures, deadlocks, lock timeouts and statement timeouts. The
#: database still serves all other statements, and a retry may succeed.
_CONTENTION = frozenset({"40001", "40P01", "55P03", "57014"})

#: The function of PostgreSQL that rejects a prepared statement whose table has been altered. The
#: error's SQLSTATE has other causes, and its text depends on the server's language.
_PLAN_CHECK = "RevalidateCachedQuery"

#: SQLAlchemy's codes of errors that follow a lost connection.
_AFTER_LOSS = frozenset({"8s2b"})

#: Driver errors that mean a lost connection if they have no SQLSTATE: a stopped server does not
#: send an SQLSTATE, and libpq drops the SQLSTATE of a connection attempt.
_CONNECTION_ERRORS = (psycopg2.OperationalError, psycopg2.InterfaceError)

#: The maximum length of a chain of causes, which may be circular.
_DEPTH = 10


class NoResponse(ExpectedError):
    """The database has not responded in time."""


def reason(error: BaseException) -> str | None:
    """Return the outage that caused an error, as a constant text, or None.

    The result is None if the cause is the statement, its values, the program, or `contention`. An
    error raised `from` an outage counts as that outage.
    """
    return next(filter(None, map(_reason, _causes(error))), None)


def takes_no_writes(error: BaseException) -> bool:
    """Return whether an error comes from a read-only server: a standby, or a full disk."""
    return reason(error) == _NO_WRITES


def is_unusable(error: BaseException) -> bool:
    """Return whether an open connection must be replaced: every later use would also fail."""
    return reason(error) in {_NO_WRITES, _OUTDATED}


def contention(error: BaseException) -> bool:
    """Return whether concurrent transactions or the statement timeout caused an error."""
    return any(_sqlstate(cause) in _CONTENTION for cause in _causes(error))


def _reason(error: BaseException) -> str | None:
    if isinstance(error, NoResponse):
        return _NO_RESPONSE
    if isinstance(error, exc.TimeoutError):
        return _NO_CONNECTION
    if isinstance(error, exc.DisconnectionError) or getattr(error, "code", "") in _AFTER_LOSS:
        return _UNREACHABLE
    if _is_outdated_plan(error):
        return _OUTDATED
    state = _sqlstate(error) or ""
    if known := next((text for start, text in _REASONS.items() if state.startswith(start)), None):
        return known
    return _UNREACHABLE if _is_connection_lost(error, state) else None


def _is_outdated_plan(error: BaseException) -> bool:
    # An SQLAlchemy error wraps the driver's error, which has the diagnosis.
    diagnosis = getattr(getattr(error, "orig", None) or error, "diag", None)
    return diagnosis is not None and diagnosis.source_function == _PLAN_CHECK


def _is_connection_lost(error: BaseException, state: str) -> bool:
    if isinstance(error, exc.DBAPIError):
        # This applies to any SQLSTATE, because a server may end a session for a reason that is not
        # listed here.
        return error.connection_invalidated
    if state:
        return False
    # psycopg2 raises a plain DatabaseError for a truncated response.
    return isinstance(error, _CONNECTION_ERRORS) or type(error) is psycopg2.DatabaseError


def _sqlstate(error: BaseException) -> str | None:
    # An SQLAlchemy error wraps the driver's error, which has the SQLSTATE.
    for source in (error, getattr(error, "orig", None)):
        if state := getattr(source, "pgcode", None):
            return str(state)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_DEPTH):
        if cause is None:
            return
        yield cause
        cause = getattr(cause, "orig", None) or cause.__cause__
