"""A client-side limit on each statement, for servers that stop responding.

PostgreSQL applies `statement_timeout`, and the kernel closes connections to machines that have
disappeared. Neither ends the wait for a server, or a proxy in front of it, that keeps a connection
open and does not respond.
"""

import logging
import os
import socket
import time
from contextlib import suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Any

from psycopg2 import Error

from eventbus.database.connection import Connection, Cursor

log = logging.getLogger(__name__)

#: Seconds between two checks of the statements in progress.
_TICK = 0.5


class StatementLimit:
    """The limit of the statements of one engine.

    The connection of a statement that takes longer than `seconds` is shut down. The statement then
    raises an `OperationalError`, as after a lost connection.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def connect(self, *arguments: Any, **options: Any) -> "LimitedConnection":
        """Return a new connection with this limit: a `connection_factory` of psycopg2."""
        connection = LimitedConnection(*arguments, **options)
        connection.running = _Running(connection, self.seconds)
        return connection


class LimitedConnection(Connection):
    """A connection whose statements have a limit."""

    #: The context in which each statement runs.
    running: "_Running"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = LimitedCursor

    def _send(self, statements: bytes) -> None:
        with self.running:
            super()._send(statements)


class LimitedCursor(Cursor):
    """A cursor whose statements have a limit."""

    connection: LimitedConnection

    def execute(self, query: Any, values: Any = None) -> None:
        """Run a query, within the limit."""
        with self.connection.running:
            super().execute(query, values)

    def executemany(self, query: Any, rows: Any) -> None:
        """Run a statement for all rows, within the limit."""
        with self.connection.running:
            super().executemany(query, rows)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Run a `COPY`, within the limit."""
        with self.connection.running:
            super().copy_expert(sql, file, size)


class _Running:
    """The context of a statement of one connection."""

    def __init__(self, connection: LimitedConnection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds

    def __enter__(self) -> None:
        _watch.add(self._connection, time.monotonic() + self._seconds)

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        _watch.remove(self._connection)


class _Watch:
    """The statements that this process is running, and the thread that ends overdue statements."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the statements and the thread of the parent process, after a fork."""
        self._deadlines: dict[LimitedConnection, float] = {}
        self._lock = Lock()
        self._is_started = False

    def add(self, connection: LimitedConnection, deadline: float) -> None:
        with self._lock:
            if not self._is_started:
                # This fails if the system permits no more threads; the next statement retries.
                Thread(target=self._run, name="statement-limit", daemon=True).start()
                self._is_started = True
            self._deadlines[connection] = deadline

    def remove(self, connection: LimitedConnection) -> None:
        with self._lock:
            self._deadlines.pop(connection, None)

    def _run(self) -> None:
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            # A thread removes its statement before it closes the connection: while the lock is
            # held, the descriptors of all connections in the dictionary are their own.
            with self._lock:
                overdue = [c for c, deadline in self._deadlines.items() if deadline <= now]
                for connection in overdue:
                    del self._deadlines[connection]
                    _shut_down(connection)
            for _ in overdue:
                log.warning("statement without a response ended")


def _shut_down(connection: LimitedConnection) -> None:
    """Shut down a connection's socket, which ends the wait of the thread that uses it."""
    # The connection may have failed in the meantime.
    with suppress(OSError, Error):
        # The socket is shut down without another descriptor, because the process may have none
        # left.
        shared = socket.socket(fileno=connection.fileno())
        try:
            shared.shutdown(socket.SHUT_RDWR)
        finally:
            shared.detach()


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.reset)
