"""Descriptions of errors for logs, message headers and stored reasons, without customers' data.

PostgreSQL quotes the offending values in an error's text (`Key (email)=(...) already exists`),
mail servers quote addresses, and Python quotes keys. These texts are never repeated.
"""

import traceback
from smtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected

import psycopg2
from amqp.exceptions import AMQPError
from billiard.exceptions import WorkerLostError
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import exc

from eventbus.errors import ExpectedError

#: Classes of SQLSTATE whose primary message is constant, or names only objects of the server.
_CONSTANT_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
#: Further SQLSTATEs of this kind: missing permission, table, column.
_CONSTANT_STATES = ("42501", "42P01", "42703")

#: Errors whose text names code, hosts or files, never the input of a customer.
_SAFE = (
    ExpectedError,
    AMQPError,
    BrokerError,
    AttributeError,
    ImportError,
    NameError,
    OSError,
    RecursionError,
    WorkerLostError,
    exc.DisconnectionError,
    exc.TimeoutError,
)


def described(error: BaseException) -> str:
    """Return the class of an error and its details, without customers' data.

    A database error is described by its SQLSTATE and the objects it names, an error of this system
    by its message, and an error with an unsafe text by the line of code that raised it.
    """
    cause = getattr(error, "orig", None)
    if isinstance(error, exc.StatementError) and isinstance(cause, BaseException):
        return described(cause)
    details = _details(error)
    return f"{type(error).__name__}: {details}" if details else type(error).__name__


def trace_of(error: BaseException) -> str:
    """Return the traceback of an error and its causes, each of them as `described`."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [trace_of(cause), ""] if cause else []
    lines += ["Traceback (most recent call last):"] if error.__traceback__ else []
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    return "\n".join([*lines, *([frames] if frames else []), described(error)])


def _details(error: BaseException) -> str:
    if isinstance(error, psycopg2.Error):
        return _database_details(error)
    if isinstance(error, SMTPException) and not isinstance(error, SMTPServerDisconnected):
        return f"answer {error.smtp_code}" if isinstance(error, SMTPResponseException) else ""
    return str(error) if isinstance(error, _SAFE) else _location(error)


def _database_details(error: psycopg2.Error) -> str:
    if not error.pgcode:
        # libpq's message about a connection; a data error of the driver may quote its argument.
        is_libpq = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        return _first_line(str(error)) if is_libpq else _location(error)
    diagnosis = error.diag
    objects = {
        "table": diagnosis.table_name,
        "column": diagnosis.column_name,
        "constraint": diagnosis.constraint_name,
    }
    state = f"SQLSTATE {error.pgcode}"
    parts = [state, *(f"{kind} {name}" for kind, name in objects.items() if name)]
    if error.pgcode.startswith(_CONSTANT_CLASSES) or error.pgcode in _CONSTANT_STATES:
        parts.append(_first_line(diagnosis.message_primary or ""))
    return ", ".join(filter(None, parts))


def _location(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return "".join(f"raised in {_module(f.filename)}:{f.lineno}, {f.name}" for f in frames)


def _module(filename: str) -> str:
    return "/".join(filename.split("/")[-2:])


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
