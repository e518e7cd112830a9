"""The statements that every event passes through: written in SQL, planned once by each connection.

To build a statement of Python objects, and to plan it, costs several times what it takes to run it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult
from sqlalchemy.orm import Session

from eventbus.database.connection import Cursor


class Statement:
    """A prepared statement; a connection learns it when it first runs it."""

    def __init__(self, name: str, sql: str, *types: str) -> None:
        """`sql` calls its parameters, of these PostgreSQL types, $1, $2 and so on."""
        self._name = name
        self._prepare = f"PREPARE {name} ({', '.join(types)}) AS {sql}"
        self._execute = f"EXECUTE {name} ({', '.join(['%s'] * len(types))})"

    def run(self, session: Session, *parameters: object) -> CursorResult[Any]:
        """Run it in the session's transaction, after what that has not written yet."""
        session.flush()
        return self.run_on(session.connection(), *parameters)

    def run_with_next(self, session: Session, *parameters: object) -> None:
        """Run it with the transaction's next statement, or with its commit; it has no result.

        For what is written last: it saves a round trip. Whatever it raises, that one raises.
        """
        session.flush()
        connection = session.connection()
        text = self.prepared(connection)
        cursor = connection.connection.cursor()
        try:
            if isinstance(cursor, Cursor):
                cursor.execute_with_next(text, parameters)
            else:
                self.run_on(connection, *parameters)
        finally:
            cursor.close()

    def run_on(self, connection: Connection, *parameters: object) -> CursorResult[Any]:
        """Run it on a connection, in its transaction if it has one."""
        return connection.exec_driver_sql(self.prepared(connection), parameters)

    def prepared(self, connection: Connection) -> str:
        """Return the text that runs it, to go with others in one round trip."""
        if self._name not in connection.info:
            connection.exec_driver_sql(self._prepare)
            connection.info[self._name] = True
        return self._execute


def packed(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as one parameter, which `json_to_recordset` takes apart in the database."""
    return msgspec.json.encode(list(rows)).decode()
