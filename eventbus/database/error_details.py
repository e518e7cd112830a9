"""Descriptions of database errors by SQLSTATE and the objects that they name, without values.

They are registered with `eventbus.telemetry.privacy`, which does not import the driver.
"""

import psycopg2
from sqlalchemy import exc

from eventbus.telemetry.privacy import details

#: SQLSTATE classes whose primary message is constant, or names only objects of the server.
_CONSTANT_CLASSES = ("08", "25", "40", "53", "55", "57", "58")
#: Individual SQLSTATEs of this kind: a missing permission, table or column.
_CONSTANT_STATES = ("42501", "42P01", "42703")

#: The default description, which is the line of code that raised the error.
_location = details.dispatch(BaseException)

# Their texts do not contain values of a statement.
details.register(exc.DisconnectionError, str)
details.register(exc.TimeoutError, str)


@details.register
def _of_driver(error: psycopg2.Error) -> str:
    if not error.pgcode:
        # This text is libpq's message about a connection. A data error of the driver is excluded,
        # because it may quote its argument.
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


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
