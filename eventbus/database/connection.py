"""Connections to a database that save round trips: two of the six of an event's transaction.

psycopg2 sends `BEGIN` by itself and waits for the answer. Here it goes with the first statement.
And a statement whose result is not needed goes with the next one, or with `COMMIT`. All else is
psycopg2's.
"""

from contextlib import suppress
from typing import Any

from psycopg2 import Error, extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

_BEGIN = b"BEGIN; "


class Cursor(extensions.cursor):
    """A cursor that begins a transaction if there is none."""

    connection: "Connection"

    def execute(self, query: Any, values: Any = None) -> None:
        """Run a statement; several are sent together, and the last one's rows are the result."""
        if first := self.connection.first():
            query = first + (_bytes(query) if values is None else self.mogrify(query, values))
            values = None
        super().execute(query, values)

    def execute_with_next(self, query: str, values: Any) -> None:
        """Run a statement together with the next one of its transaction, or with its commit.

        That one raises what this one does. One that commits by itself runs at once.
        """
        if self.connection.autocommit:
            super().execute(query, values)
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
        """Refuse: `copy_expert` does the same."""
        raise NotImplementedError

    copy_to = copy_from

    def _begin(self) -> None:
        if first := self.connection.first():
            super().execute(first)


class Connection(extensions.connection):
    """A connection that psycopg2 takes for one without transactions, and that has them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._commits_each = False
        #: Statements that go with the next one.
        self.waiting: list[bytes] = []
        extensions.connection.autocommit.__set__(self, True)
        self.cursor_factory = Cursor

    def first(self) -> bytes:
        """Return what goes before the next statement, which must be sent with it."""
        if self._commits_each:
            return b""
        begin = _BEGIN if self.get_transaction_status() == TRANSACTION_STATUS_IDLE else b""
        if self.waiting:
            begin += b"; ".join(self.waiting) + b"; "
            self.waiting.clear()
        return begin

    def commit(self) -> None:
        """Commit the transaction, if there is one; it is rolled back if that fails."""
        if not self.waiting and self.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            return
        try:
            self._send(self.first() + b"COMMIT")
        except Error:
            # As after a `COMMIT` that fails: whatever calls this takes the transaction for ended.
            with suppress(Error):
                self.rollback()
            raise

    def rollback(self) -> None:
        """Roll the transaction back, if there is one."""
        self.waiting.clear()
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self._send(b"ROLLBACK")

    def set_isolation_level(self, level: int | None) -> None:
        """Let each statement commit by itself, or not: the level is the database's default."""
        self._commits_each = level == extensions.ISOLATION_LEVEL_AUTOCOMMIT

    @property
    def autocommit(self) -> bool:
        """Whether each statement commits by itself."""
        return self._commits_each

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._commits_each = value

    def _send(self, statements: bytes) -> None:
        with self.cursor() as cursor:
            extensions.cursor.execute(cursor, statements)


def _bytes(query: str | bytes) -> bytes:
    return query.encode() if isinstance(query, str) else query
