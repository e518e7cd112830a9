"""Wake-ups by LISTEN/NOTIFY: a process sleeps until rows are inserted into its table.

Inserts notify only while a process sleeps, because concurrent transactions that notify serialize at
commit. An insert holds the table's advisory lock in shared mode until its transaction ends; a
process acquires the lock exclusively before it sleeps. At that moment no insert is in progress, and
each later insert notifies because it cannot acquire the lock.
"""

import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from eventbus.database.db import Sessions, engine_of
from eventbus.database.statement import Statement

#: Length of a nap in seconds: the sleep while a row is due that the caller could not process, which
#: keeps the caller from polling in a tight loop. This is also the lock timeout, because an insert
#: in progress or another sleeping process may hold the lock.
_NAP = 0.025

#: Maximum length of a nap in seconds, while another process holds the lock. Each nap of an idle
#: process is twice as long as the previous one, up to this limit.
_LONGEST_NAP = 0.2

_UNLOCK_ALL = "SELECT pg_advisory_unlock_all()"

#: The SQL that adds wake-ups to a table: the function, which the tables of a database share, and
#: the trigger of the table. Migrations and `eventbus.quickstart` run it. A change would not reach
#: existing databases, and therefore requires its own migration.
DEFINITION = """
CREATE OR REPLACE FUNCTION ring_doorbell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(hashtext('doorbell'), hashtext(TG_TABLE_NAME)) THEN
        PERFORM pg_notify(TG_TABLE_NAME, '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ring_doorbell BEFORE INSERT ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION ring_doorbell()
"""


class Wakeup:
    """The wake-up of a process by inserts into one table."""

    def __init__(self, table: str, *, next_due: Statement | str, is_shared: bool = False) -> None:
        """Name the table and the query for its first due row.

        `next_due` selects the seconds until the first row is due, or null if no row is pending. The
        values of its parameters are passed to `sleep`. `is_shared` means that several processes may
        sleep: they do not wait for each other's lock, because a lock timeout would appear in the
        server's log as an error.
        """
        self._is_shared = is_shared
        self._nap = _NAP
        key = f"hashtext('doorbell'), hashtext('{table}')"
        self._listen, self._unlisten = f"LISTEN {table}", f"UNLISTEN {table}"
        self._next_due = next_due
        self._lock = (
            f"SET LOCAL lock_timeout = {int(_NAP * 1000)}; SELECT pg_advisory_lock({key}); "
        )
        self._try = f"SELECT pg_try_advisory_lock({key})"
        #: The statement that a connection runs after it has slept. Until then, each insert
        #: notifies.
        self.unlock = f"SELECT pg_advisory_unlock({key})"

    @contextmanager
    def listening(self, connection: Connection) -> Iterator[None]:
        """Listen for notifications in the block, over a connection in autocommit mode."""
        connection.exec_driver_sql(self._listen)
        try:
            yield
        finally:
            if not connection.invalidated:
                # The pool discards an idle connection on which a notification arrives.
                connection.exec_driver_sql(self._unlisten)

    def sleep(
        self,
        connection: Connection,
        seconds: float,
        *values: object,
        first: tuple[str, Sequence[object]] = ("", ()),
        naps: bool = True,
    ) -> bool:
        """Sleep until a row is inserted or due, for at most `seconds`.

        The connection must be `listening`. `first` holds statements that run before the sleep, in
        the same round trip, and the values of their parameters. `values` are the parameters of
        `next_due`. If a row is already due, sleep briefly; with `naps=False` return immediately,
        for a caller that has not checked for due rows yet. Return whether the lock was acquired. If
        it was, the connection must run `unlock` next; if it was not, `first` had no effect.
        """
        driver: Any = connection.connection.driver_connection
        driver.notifies.clear()
        if self._is_shared and not connection.exec_driver_sql(self._try).scalar():
            # Inserts notify while the other process sleeps, which may end at any moment.
            _await_notification(driver, min(self._nap, seconds))
            self._nap = min(2 * self._nap, _LONGEST_NAP)
            return False
        lock = "" if self._is_shared else self._lock
        try:
            query = self._next_due
            next_due = query if isinstance(query, str) else query.prepared(connection)
            text, parameters = first[0] + lock + next_due, (*first[1], *values)
            due = connection.exec_driver_sql(text, parameters).scalar()
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            return False
        if due is None or due > 0:
            _await_notification(driver, min(seconds, due or seconds))
        elif naps:
            time.sleep(min(_NAP, seconds))
        return True

    def found(self) -> None:
        """Record that rows were found, so that the next naps are short again."""
        self._nap = _NAP

    def wait(self, sessions: Sessions, seconds: float, *values: object) -> None:
        """Sleep as `sleep` does, over a connection from the pool."""
        with engine_of(sessions).connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            with self.listening(connection):
                try:
                    self.sleep(connection, seconds, *values)
                    # Unlock regardless of the result: if the table is locked, `sleep` times out
                    # while it waits for that lock, after it has acquired the advisory lock.
                    connection.exec_driver_sql(_UNLOCK_ALL)
                except BaseException:
                    # The lock outlives a statement that fails after it was acquired.
                    connection.invalidate()
                    raise


def _await_notification(driver: Any, seconds: float) -> None:
    driver.poll()
    # A notification may have arrived with the last result.
    if not driver.notifies:
        select.select([driver], [], [], seconds)
