"""Prepared statements for the hot path, written in SQL and planned once per connection.

Building a statement from Python objects and planning it costs several times as much as running it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult
from sqlalchemy.orm import Session

from eventbus.database.connection import Cursor


class Statement:
    """A prepared statement. Each connection prepares it at its first use."""

    def __init__(self, name: str, sql: str, *types: str) -> None:
        """Define the statement. `sql` refers to its parameters, of these types, as $1 and so on."""
        self._name = name
        self._prepare = f"PREPARE {name} ({', '.join(types)}) AS {sql}"
        self._execute = f"EXECUTE {name} ({', '.join(['%s'] * len(types))})"

    def run(self, session: Session, *parameters: object) -> CursorResult[Any]:
        """Run the statement in the session's transaction, after the session's pending changes."""
        session.flush()
        return self.run_on(session.connection(), *parameters)

    def run_with_next(self, session: Session, *parameters: object) -> None:
        """Run the statement together with the transaction's next statement or its commit.

        This saves a round trip for the last write. The next statement raises the errors of this
        statement.
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
        """Run the statement on a connection, in its transaction if one is open."""
        return connection.exec_driver_sql(self.prepared(connection), parameters)

    def rows_on(self, connection: Connection, *parameters: object) -> Sequence[Any]:
        """Run the statement on a connection, and return its rows.

        The connection must be in autocommit mode or have a transaction, because this method does
        not start a transaction. SQLAlchemy's result would cost more than the statement. Errors are
        raised as SQLAlchemy's exceptions.
        """
        text = self.prepared(connection)
        with closing(connection.connection.cursor()) as cursor:
            # This call also invalidates a lost connection.
            connection._cursor_execute(cursor, text, parameters)
            return cursor.fetchall()

    def prepared(self, connection: Connection) -> str:
        """Prepare the statement if necessary; return the SQL that executes it."""
        if self._name not in connection.info:
            connection.exec_driver_sql(self._prepare)
            connection.info[self._name] = True
        return self._execute


def packed(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as one JSON parameter, for `json_to_recordset` in the database."""
    return msgspec.json.encode(list(rows)).decode()
