"""Database connections that save two of the six round trips in an event's transaction.

psycopg2 sends `BEGIN` separately and waits for the response. Here, `BEGIN` is sent with the first
statement, and a statement whose result is not needed is sent with the next statement or with
`COMMIT`. In all other respects, connections behave as in psycopg2.
"""

from contextlib import suppress
from typing import Any

from psycopg2 import Error, extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR

from eventbus.errors import ExpectedError

_BEGIN = b"BEGIN; "


class NotCommitted(ExpectedError):
    """A statement of the transaction has failed, so the commit would have had no effect."""


class Cursor(extensions.cursor):
    """A cursor that starts a transaction if none is open."""

    connection: "Connection"

    def execute(self, query: Any, values: Any = None) -> None:
        """Run a query. With several statements, the result contains the rows of the last one."""
        if first := self.connection.first():
            query = first + (_bytes(query) if values is None else self.mogrify(query, values))
            values = None
        super().execute(query, values)

    def execute_with_next(self, query: str, values: Any) -> None:
        """Run a statement together with the next statement of its transaction, or with its commit.

        The next statement raises an error of this statement. In autocommit mode the statement runs
        immediately.
        """
        if self.connection.autocommit:
            self.execute(query, values)
        else:
            self.connection.waiting.append(self.mogrify(query, values))

    def executemany(self, query: Any, rows: Any) -> None:
        """Run a statement for each row."""
        self._begin()
        super().executemany(query, rows)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a `COPY`."""
        self._begin()
        super().copy_expert(sql, file, size)

    def callproc(self, name: Any, parameters: Any = None) -> None:
        """Call a function."""
        self._begin()
        super().callproc(name, parameters)

    def copy_from(self, *_: Any, **__: Any) -> None:
        """Reject the call: use `copy_expert`."""
        raise NotImplementedError

    copy_to = copy_from

    def _begin(self) -> None:
        if first := self.connection.first():
            super().execute(first)


class Connection(extensions.connection):
    """A connection in autocommit mode for psycopg2 that manages its transactions itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_autocommit = False
        #: Statements that are sent with the next statement.
        self.waiting: list[bytes] = []
        extensions.connection.autocommit.__set__(self, True)
        self.cursor_factory = Cursor

    def first(self) -> bytes:
        """Return and clear the SQL that must be sent before the next statement, with it."""
        if self._is_autocommit:
            return b""
        begin = _BEGIN if self.get_transaction_status() == TRANSACTION_STATUS_IDLE else b""
        if self.waiting:
            begin += b"; ".join(self.waiting) + b"; "
            self.waiting.clear()
        return begin

    def commit(self) -> None:
        """Commit the open transaction, if any, and roll it back if the commit fails.

        Raises `NotCommitted` if one of its statements has failed and the caller ignored the error.
        """
        status = self.get_transaction_status()
        if not self.waiting and status == TRANSACTION_STATUS_IDLE:
            return
        if status == TRANSACTION_STATUS_INERROR:
            # PostgreSQL would roll back, and respond without an error.
            self.rollback()
            raise NotCommitted
        try:
            self._send(self.first() + b"COMMIT")
        except Error:
            # The transaction is rolled back, as after a failed `COMMIT`, because the caller expects
            # it to have ended.
            with suppress(Error):
                self.rollback()
            raise

    def rollback(self) -> None:
        """Roll back the transaction, if one is open."""
        self.waiting.clear()
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self._send(b"ROLLBACK")

    def set_isolation_level(self, level: int | None) -> None:
        """Turn autocommit on or off. For any other level, the database's default applies."""
        self._is_autocommit = level == extensions.ISOLATION_LEVEL_AUTOCOMMIT

    @property
    def autocommit(self) -> bool:
        """Whether each statement is committed separately."""
        return self._is_autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._is_autocommit = value

    def _send(self, statements: bytes) -> None:
        with self.cursor() as cursor:
            extensions.cursor.execute(cursor, statements)


def _bytes(query: str | bytes) -> bytes:
    return query.encode() if isinstance(query, str) else query
